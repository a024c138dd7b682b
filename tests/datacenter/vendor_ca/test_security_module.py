"""The CA's key in a security module (SoftHSM) signs certificates and cannot be exported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pkcs11.util.ec import encode_named_curve_parameters

from datacenter.vendor_ca.authority import AuthorityError, load_authority, load_certificates
from datacenter.vendor_ca.security_module import ModuleKey, load_module_key
from wire.pki.hierarchy import Authority, make_key

LIBRARIES = [Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib64/softhsm/libsofthsm2.so")]
LIBRARY = next((one for one in LIBRARIES if one.exists()), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs SoftHSM: make setup-datacenter")
USED = LIBRARY or LIBRARIES[0]


@pytest.fixture(scope="module")
def pin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file with the PIN of the token "rap", which has the key pairs "vendor-ca" (P-256) and "wide" (P-384)."""
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    (folder / "pin").write_text("1234\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        init = "softhsm2-util --init-token --free --label rap --pin 1234 --so-pin 5678"
        subprocess.run(init.split(), check=True, capture_output=True)
        library = pkcs11.lib(str(LIBRARY))
        library.reinitialize()
        with library.get_token(token_label="rap").open(user_pin="1234", rw=True) as session:
            for label, curve in (("vendor-ca", "secp256r1"), ("wide", "secp384r1")):
                curves = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}
                parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curves, local=True)
                parameters.generate_keypair(store=True, label=label)
        yield folder / "pin"


@pytest.fixture
def key(pin: Path) -> ModuleKey:
    return load_module_key(USED, "rap", "vendor-ca", pin)


def test_the_module_signs_certificates_that_openssl_verifies(key: ModuleKey, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(Authority.make("vendor", key).certificate.public_bytes(Encoding.PEM))
    authority = load_authority(tmp_path / "ca.crt", lambda: key, tmp_path / "ca.crt")
    leaf = authority.certify("RAP-0001", make_key().public_key(), datetime.now(UTC).timestamp())
    (tmp_path / "box.crt").write_bytes(leaf.public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-x509_strict", "-CAfile", f"{tmp_path}/ca.crt", f"{tmp_path}/box.crt"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("OK\n")


def test_the_key_cannot_be_read(key: ModuleKey) -> None:
    with pytest.raises(NotImplementedError, match="cannot be exported from the security module"):
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("library", "token", "label", "message"),
    [
        (USED, "none", "vendor-ca", "token none"),
        (USED, "rap", "none", "key none"),
        (USED, "rap", "wide", "must be an ECDSA key of curve P-256"),
        (Path("/none.so"), "rap", "vendor-ca", "/none.so"),
    ],
)
def test_errors_name_the_unusable_token_key_or_library(
    pin: Path, library: Path, token: str, label: str, message: str
) -> None:
    with pytest.raises(AuthorityError, match=message):
        load_module_key(library, token, label, pin)


def test_a_wrong_pin_is_reported(pin: Path, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("9999")
    program = (
        "import sys; from pathlib import Path; from datacenter.vendor_ca.security_module import load_module_key;"
        "load_module_key(Path(sys.argv[1]), 'rap', 'vendor-ca', Path(sys.argv[2]))"
    )  # in a separate process, because a login is valid for the entire process
    command = [sys.executable, "-c", program, str(USED), str(tmp_path / "pin")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "token rap, key vendor-ca: cannot be used: PinIncorrect" in result.stderr


def test_the_certificate_must_be_for_the_key_and_lead_to_a_trusted_root(tmp_path: Path) -> None:
    one, other = Authority.make("one"), Authority.make("other")
    for name, authority in (("one", one), ("other", other)):
        (tmp_path / f"{name}.crt").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    with pytest.raises(AuthorityError, match="is not for the CA's key"):
        load_authority(tmp_path / "one.crt", lambda: other.key, tmp_path / "one.crt")
    (tmp_path / "none.crt").write_text("no certificate")
    with pytest.raises(AuthorityError, match="has no CA certificate in PEM"):
        load_certificates(tmp_path / "none.crt")
    with pytest.raises(AuthorityError, match="add its root to that file"):
        load_authority(tmp_path / "one.crt", lambda: one.key, tmp_path / "other.crt")
    both = tmp_path / "both.crt"
    both.write_bytes((tmp_path / "one.crt").read_bytes() + (tmp_path / "other.crt").read_bytes())
    roots = load_authority(tmp_path / "one.crt", lambda: one.key, both).trusted
    assert roots == (one.certificate, other.certificate), "during a roll-over"
    assert x509.load_pem_x509_certificates(both.read_bytes()) == list(roots)
