"""From a kickstart to a box with its identity: an image is built, flashed with a new certificate, and provisioned."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from cryptography import x509

from agents.provision.main import provision
from imaging.kickstart.site import for_box, load_site
from rap.outcome import OK
from settings import identity_archive
from tests.support.imaging.flash.images import MIB, loop_device, rap
from tests.support.imaging.sites import FLASHED_SITE, system_tree, write_site
from tests.support.imaging.small_system import small_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices and images need root")


def partition_on(device: str) -> tuple[int, int]:
    """Return the identity's partition on a disk according to sfdisk: offset and length in bytes."""
    output = subprocess.run(["sfdisk", "--json", device], check=True, capture_output=True, text=True)
    parts = json.loads(output.stdout)["partitiontable"]["partitions"]
    part = next(part for part in parts if part.get("name") == "rap-identity")
    return part["start"] * 512, part["size"] * 512


@pytest.mark.slow("an image is built")
def test_an_identity_flashed_with_an_image_is_installed_on_the_box(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = small_image(tmp_path_factory)
    site = write_site(tmp_path, FLASHED_SITE)
    rap("pki", "init", "pki")
    with loop_device(tmp_path / "disk.img", image.stat().st_size + 64 * MIB) as device:
        options = [
            "--key",
            image.with_name("key.pub"),
            "--serial",
            Path(device).name,
            "--box",
            "RAP-0001",
            "--record",
            "it.json",
        ]
        assert rap("flash", "write", image, device, *options, "--site", site, "--pki", "pki") == OK
        offset, length = partition_on(device)
        assert (offset, length) == (MIB, MIB)
        with loop_device(device, 0, f"--offset={offset}", f"--sizelimit={length}") as partition:
            root = system_tree(tmp_path / "root")
            provision(root / "etc/rap/site.toml", root, Path(partition))
            assert not any(Path(partition).read_bytes())
        assert rap("flash", "verify", device, "--record", "it.json") == OK
    folder = root / "var/lib/rap/identity"
    names = sorted(path.name for path in folder.iterdir())
    expected = [
        "box.crt",
        "box.csr",
        "box.key",
        "datacenter-root.crt",
        "serial",
        "site.toml",
        "vendor-ca.crt",
    ]
    assert names == expected
    certificate = x509.load_pem_x509_certificate((folder / identity_archive.CERTIFICATE).read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=RAP-0001"
    assert (root / "etc/rap/site.toml").read_text() == for_box(load_site(site))
    ports = tomllib.loads((root / "etc/rap/box.toml").read_text())["port"]
    assert "CHEM-0001" in [one["serial"] for port in ports for one in port.get("instrument", [])]
