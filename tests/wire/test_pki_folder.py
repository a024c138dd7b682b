"""A hierarchy in a folder: that its certificates are believed by whom they should be, and by nobody else."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from wire import pki_folder
from wire.tls import Identity, client_context, server_context


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    pki_folder.init(folder)
    return folder


def shake(client: Identity, server: Identity, host: str) -> str:
    """Shake hands in memory; returns the suite."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = ssl.SSLContext.wrap_bio(client_context(client), to_client, to_server, server_hostname=host)
    far = server_context(server).wrap_bio(to_server, to_client, server_side=True)
    ends = {near, far}
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.discard(end)
            except ssl.SSLWantReadError:
                pass
    suite = near.cipher()
    assert suite is not None
    return suite[0]


def test_a_box_and_a_data_center_believe_each_other(folder: Path) -> None:
    box = pki_folder.issue(folder, "RAP-0001", "box")
    datacenter = pki_folder.issue(folder, "DC", "datacenter", ("reports.test",))
    assert shake(box, datacenter, "reports.test") == "TLS_AES_128_GCM_SHA256"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(box, datacenter, "other.test")


def test_nobody_believes_another_hierarchy(folder: Path, tmp_path: Path) -> None:
    pki_folder.init(tmp_path)
    stranger = pki_folder.issue(tmp_path, "RAP-0002", "box")
    datacenter = pki_folder.issue(folder, "DC-2", "datacenter", ("reports.test",))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(stranger, datacenter, "reports.test")
