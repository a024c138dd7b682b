"""The identity of a box: its serial, key, certificate and site file.

The key is generated on the station that writes the disk, and is stored only on that disk, next to its certificate
request. At the first start, provisioning moves the files from the identity partition (`settings.identity_archive`) to
the box's own folder, and overwrites the partition with zeros. If there is no certificate yet, it removes only the key
from the partition.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from settings.identity_archive import (
    CERTIFICATE,
    DATACENTER_AUTHORITY,
    KEY,
    REQUEST,
    SERIAL,
    SITE,
    VENDOR_AUTHORITY,
    IdentityError,
)
from wire.pki import directory as pki_directory
from wire.pki.hierarchy import make_key
from wire.pki.request import key_hash, make_request
from wire.tls.certificates import CERTIFICATE_ERRORS

# As in wire.messages.Serial
_SERIAL: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,23}")


def make(serial: str, site: bytes, before: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """Make the files of an identity, by name.

    The files in `before`, except the site file, are kept if they have a key of the same box.

    `serial` is the serial of the box, and `site` the content of its site file.
    Raises: IdentityError.
    """
    if not _SERIAL.fullmatch(serial):
        raise IdentityError(
            f'"{serial}": is not a serial; write at most 24 capital letters, digits and "-", such as RAP-0001'
        )
    name = f"{serial}\n".encode()
    if before and before.get(SERIAL) == name and {KEY, REQUEST} <= before.keys():
        return {**before, SITE: site}
    # on the curve with which grants of remote sessions are signed (ES256)
    key = make_key()
    return {
        KEY: _pem_key(key),
        REQUEST: make_request(serial, key).public_bytes(serialization.Encoding.PEM),
        SERIAL: name,
        SITE: site,
    }


def with_certificate(files: dict[str, bytes], chain: bytes) -> dict[str, bytes]:
    """Add the issued certificate chain (PEM). Raises: IdentityError, if it belongs to another box or key."""
    certificate = read_certificate(chain)
    name = files[SERIAL].decode().strip()
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if certificate.public_key() != _public_key(files):
        raise IdentityError(
            f"is not for the key on this disk: have it issued from the certificate request of this box, {name}"
        )
    if names != [name]:
        raise IdentityError(f"is for {', '.join(names) or 'no name'}; this disk belongs to {name}")
    return {**files, CERTIFICATE: chain}


def read_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a chain. Raises: IdentityError."""
    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
        certificate.public_key()  # raises an error if the type of the key is not supported
        return certificate
    except (*CERTIFICATE_ERRORS, IndexError) as error:
        raise IdentityError(f"is not a certificate in PEM: {error}") from None


def issue(files: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """Add a certificate issued from a folder of `rap pki`. Raises: IdentityError, OSError."""
    name = files[SERIAL].decode().strip()
    try:
        chain, vendor, root = pki_directory.certify(folder, name, "box", _public_key(files))
    except pki_directory.PkiError as error:
        raise IdentityError(str(error)) from None
    return with_certificate({**files, VENDOR_AUTHORITY: vendor, DATACENTER_AUTHORITY: root}, chain)


def key_sha256(files: dict[str, bytes]) -> str:
    """Return the hash of an identity's public key, by which the data center identifies the box."""
    return key_hash(_public_key(files))


def _public_key(files: dict[str, bytes]) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Return the public key from the identity's request, which remains after the private key was removed."""
    key = x509.load_pem_x509_csr(files[REQUEST]).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey), "earlier versions made RSA keys"
    return key


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
