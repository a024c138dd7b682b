"""What makes a box this box: its serial, its key, its certificate and its site file, in a raw partition of its own.

The key is drawn where the disk is written and goes nowhere but onto that disk; what leaves is a certificate request.
At the first start the provisioning reads the partition, moves the files to where they are encrypted, and zeroes it.

There is no file system in it, whose driver a first start might lack and whose state a power cut might tear: one
sector of text,

    RAP-IDENTITY 1
    <length of the archive>
    <SHA-256 of the archive, hexadecimal>

padded with zeros to 512 bytes, and then a POSIX tar archive. A shell can read it: `tail -c +513`, `head -c LENGTH`,
`sha256sum`, `tar x`.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from wire import pki_folder
from wire.pki import make_key

LABEL: Final = "rap-identity"
"""The partition's name in the GPT."""
HEADER_BYTES: Final = 512
_MAGIC: Final = "RAP-IDENTITY 1"
_HEADER: Final = re.compile(rf"{_MAGIC}\n(\d{{1,9}})\n([0-9a-f]{{64}})\n\0*")
# As in wire.messages.Serial
_SERIAL: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,23}")
SERIAL, SITE, KEY, CERTIFICATE = "serial", "site.toml", "box.key", "box.crt"
VENDOR_AUTHORITY, DATACENTER_AUTHORITY = "vendor-ca.crt", "datacenter-root.crt"
SECRET_MODE: Final = 0o600


class IdentityError(Exception):
    """What was given or found is no identity of a box, or not of this one; the message says what would be right."""


def make(serial: str, site: bytes, before: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """The files of a new identity; the key and certificate of `before` stay, if it is the same box's.

    Raises IdentityError.
    """
    if not _SERIAL.fullmatch(serial):
        raise IdentityError(
            f'"{serial}": a serial is capital letters, digits and "-", at most 24, such as RAP-0001'
        )
    kept = before if before and before.get(SERIAL) == f"{serial}\n".encode() else {KEY: _pem_key(make_key())}
    return {**kept, SERIAL: f"{serial}\n".encode(), SITE: site}


def request(files: dict[str, bytes]) -> bytes:
    """The certificate request (PKCS #10, PEM) of an identity."""
    name = files[SERIAL].decode().strip()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    alternative = x509.SubjectAlternativeName([x509.DNSName(name.lower())])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    made = builder.add_extension(alternative, critical=False).sign(_load_key(files), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def with_certificate(files: dict[str, bytes], chain: bytes) -> dict[str, bytes]:
    """The identity with the certificate chain (PEM) that came back. Raises IdentityError: another box's."""
    certificate = read_certificate(chain)
    name = files[SERIAL].decode().strip()
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if certificate.public_key() != _load_key(files).public_key():
        raise IdentityError(
            f"is not for the key on this disk: have it issued from this box's request, {name}"
        )
    if names != [name]:
        raise IdentityError(f"is for {', '.join(names) or 'nobody'}; this disk is {name}'s")
    return {**files, CERTIFICATE: chain}


def read_certificate(pem: bytes) -> x509.Certificate:
    """The first certificate of a chain. Raises IdentityError."""
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except (ValueError, IndexError) as error:
        raise IdentityError(f"is not a certificate in PEM: {error}") from None


def issue(files: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """The identity with a certificate from a lab's folder of `rap pki`. Raises IdentityError, OSError."""
    name = files[SERIAL].decode().strip()
    try:
        chain, vendor, root = pki_folder.certify(folder, name, "box", _load_key(files).public_key())
    except pki_folder.PkiError as error:
        raise IdentityError(str(error)) from None
    return with_certificate({**files, VENDOR_AUTHORITY: vendor, DATACENTER_AUTHORITY: root}, chain)


def pack(files: dict[str, bytes]) -> bytes:
    """The partition's content, whole sectors. The same files give the same bytes."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), SECRET_MODE
            tar.addfile(entry, io.BytesIO(data))
    data = archive.getvalue()
    header = f"{_MAGIC}\n{len(data)}\n{hashlib.sha256(data).hexdigest()}\n".encode()
    packed = header.ljust(HEADER_BYTES, b"\0") + data
    return packed + bytes(-len(packed) % 512)


def unpack(area: bytes) -> dict[str, bytes]:
    """The files in a partition's content. Raises IdentityError: none there, or damaged."""
    header = _HEADER.fullmatch(area[:HEADER_BYTES].decode("ascii", "replace"))
    if header is None:
        raise IdentityError("there is no identity on this disk: none was written, or the box took it already")
    data = area[HEADER_BYTES : HEADER_BYTES + int(header[1])]
    if hashlib.sha256(data).hexdigest() != header[2]:
        raise IdentityError("the identity on this disk is damaged: write the disk again")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        opened = [(entry.name, tar.extractfile(entry)) for entry in tar.getmembers()]
        return {name: file.read() for name, file in opened if file}


def _load_key(files: dict[str, bytes]) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(files[KEY], None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _pem_key(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
