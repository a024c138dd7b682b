"""Keys in a TPM: signatures, TLS with them in both roles and in FIPS mode, and a box that enrols with one."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from agents.box.configuration.config import BoxConfig
from agents.enrolment.keys import key_maker
from agents.enrolment.records import NEXT, USED, IdentityRecord, IdentityRecords
from hal.emul.disk import EmulDisk
from settings.site import Enrolment
from settings.types import Endpoint
from tests.support.agents.boxes import disk, running_box
from tests.support.crypto.fips import CAN_RUN as HAS_FIPS
from tests.support.crypto.fips import CONFIGURATION
from tests.support.crypto.fips import REASON as NEEDS_FIPS
from tests.support.crypto.tpm import HAS_TPM, REASON, software_tpm
from tests.support.enrolment_center import EnrolmentCenter
from tests.support.eventually import eventually
from tests.support.paths import ROOT
from wire.pki.hierarchy import Authority, make_key
from wire.pki.request import make_request
from wire.pki.signature import load_private_key
from wire.tls.context import Identity, client_context, server_context
from wire.tls.identity import CLIENT, SERVER, inspect_identity
from wire.tls.tpm import TpmError, TpmKey, load_key

pytestmark = pytest.mark.skipif(not HAS_TPM, reason=REASON)


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with software_tpm(tmp_path_factory.mktemp("tpm")):
        yield


def identities(folder: Path, key: TpmKey) -> tuple[Identity, Identity]:
    """Return an identity with the key in the TPM, and another with a key in a file; both trust the CA of both."""
    ca = Authority.make("vendor")
    folder.joinpath("tpm.key").write_bytes(key.pem)
    folder.joinpath("tpm.crt").write_bytes(ca.certify("RAP-0001", key.public_key(), hosts=("localhost",)))
    other = ca.issue(folder, "other", hosts=("localhost",), trusts=ca)
    return Identity(folder / "tpm.crt", folder / "tpm.key", other.authorities), other


def handshake(client: Identity, server: Identity, version: ssl.TLSVersion) -> tuple[bytes, str]:
    """Return the client's certificate (DER) as the server sees it, and the version."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(client)
    context.maximum_version = version
    ends = [
        context.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server_context(server).wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1].getpeercert(binary_form=True) or b"", ends[1].version() or ""


@pytest.mark.usefixtures("tpm")
def test_a_request_and_a_signature_are_verified_by_the_public_key() -> None:
    key = TpmKey.make()
    assert make_request("RAP-0001", key).is_signature_valid
    key.public_key().verify(key.sign(b"text", ec.ECDSA(SHA256())), b"text", ec.ECDSA(SHA256()))


@pytest.mark.usefixtures("tpm")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_authenticates_client_and_server_with_the_key(tmp_path: Path, version: ssl.TLSVersion) -> None:
    own, other = identities(tmp_path, TpmKey.make())
    expected = x509.load_pem_x509_certificate(own.certificate.read_bytes())
    received, name = handshake(own, other, version)
    assert x509.load_der_x509_certificate(received) == expected and name == version.name.replace("v1_", "v1.")
    assert handshake(other, own, version)[0]


@pytest.mark.usefixtures("tpm")
def test_the_files_are_inspected_and_the_key_signs_for_sessions(tmp_path: Path) -> None:
    own, other = identities(tmp_path, TpmKey.make())
    matching = inspect_identity(
        own.certificate, own.key, own.authorities, [own.authorities], (SERVER, CLIENT), 2e9
    )
    assert not [problem for problem in matching.problems if problem.file == own.key]
    assert load_private_key(own.key).sign(b"grant", ec.ECDSA(SHA256()))
    swapped = inspect_identity(other.certificate, own.key, own.authorities, [own.authorities], (CLIENT,), 2e9)
    assert any("is not the key of" in problem.message for problem in swapped.problems)


def test_a_certificate_for_another_key_is_refused(tmp_path: Path, tpm: None) -> None:
    own, other = identities(tmp_path, TpmKey.make())
    with pytest.raises(ssl.SSLError, match="is not a certificate for the key in the TPM"):
        client_context(Identity(other.certificate, own.key, own.authorities))


def test_a_key_is_useless_without_its_tpm(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    storage = EmulDisk(1 << 20, Random(1))
    with software_tpm(tmp_path / "one"):
        key = TpmKey.make()
        IdentityRecords(storage).save_next(IdentityRecord(key.pem))
    with software_tpm(tmp_path / "two"):
        with pytest.raises(TpmError, match="the TPM cannot be used"):
            load_key(key.pem)
        assert IdentityRecords(storage).load(NEXT) is None, "the box enrols again with the flashed identity"


def test_without_a_tpm_a_site_that_requires_one_has_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPM2OPENSSL_TCTI", "swtpm:path=/nonexistent")
    messages: list[str] = []
    with pytest.raises(TpmError):
        key_maker(Enrolment("tpm"), messages.append)()
    assert not messages
    assert not isinstance(key_maker(Enrolment("tpm-or-file"), messages.append)(), TpmKey)
    assert "as the site permits" in messages[0]
    assert key_maker(Enrolment(), messages.append) is make_key


@pytest.mark.usefixtures("tpm")
def test_a_box_enrols_with_a_key_in_its_tpm_and_sends_reports_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    center, storage = EnrolmentCenter(tmp_path), disk()
    monkeypatch.setattr("tests.support.agents.boxes.MAKE_KEY", TpmKey.make)

    async def act() -> None:
        async with center.serving():
            config = BoxConfig(
                board="rap-4",
                identity=center.files(),
                datacenter=Endpoint("localhost", center.port),
                port=[],
                enrolment=Enrolment("tpm"),
            )
            async with running_box(config, storage):
                await eventually(lambda: IdentityRecords(storage).load(USED) is not None)
            record = IdentityRecords(storage).load(USED)
            assert record is not None and isinstance(record.private_key(), TpmKey)
            async with running_box(config, storage) as box:
                await eventually(lambda: box.is_connected)
            assert center.requests.count("/.well-known/est/simpleenroll") == 1, "it is kept over a restart"

    asyncio.run(act())
    center.store.close()


@pytest.mark.skipif(not HAS_FIPS, reason=NEEDS_FIPS)
@pytest.mark.usefixtures("tpm")
def test_in_fips_mode_tls_uses_the_fips_provider_and_the_key_in_the_tpm(tmp_path: Path) -> None:
    own, other = identities(tmp_path, TpmKey.make())
    program = """if True:
        import ssl, sys
        from pathlib import Path
        from tests.wire.tls.test_tpm import handshake
        from wire.tls.context import Identity
        own, other = (Identity(*map(Path, argument.split(":"))) for argument in sys.argv[1:])
        print(handshake(own, other, ssl.TLSVersion.TLSv1_3)[1])
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers("CHACHA20")
        except ssl.SSLError:
            print("approved only")
    """
    arguments = [f"{identity.certificate}:{identity.key}:{identity.authorities}" for identity in (own, other)]
    completed = subprocess.run(
        ["env", f"OPENSSL_CONF={CONFIGURATION}", sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.stdout.split("\n")[:2] == ["TLSv1.3", "approved only"], completed.stderr
