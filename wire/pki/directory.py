"""Creates a test certificate hierarchy in a directory: the authorities, then certificates of devices.

    vendor-ca              root; signs boxes and instruments
    datacenter-root        root of the data center's chain, which is like a public CA's
    datacenter-ca          intermediate beneath it; signs data centers

Each has a `.crt` and a `.key` that only its owner can read. The key pair `vendor-signing` (`.key` and `.pub`) signs
profiles. No file is overwritten, except the revocation list `vendor-ca.crl`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from wire.pki.hierarchy import CRL_DAYS, Authority, PublicKey
from wire.pki.request import RequestError, requested_key
from wire.pki.signature import new_key_pair
from wire.tls.certificates import CERTIFICATE_ERRORS
from wire.tls.context import Identity
from wire.tls.x509 import load_certificates

Purpose: TypeAlias = Literal["box", "instrument", "datacenter"]

VENDOR: Final = "vendor-ca"
ROOT: Final = "datacenter-root"
INTERMEDIATE: Final = "datacenter-ca"
SIGNING: Final = "vendor-signing"

# As `settings.types.Serial`: the common name of a device's certificate identifies its records.
_NAME: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,23}")


class PkiError(Exception):
    """A file is missing, unusable or already exists; the message says how to correct it. Nothing was written."""


def init(folder: Path) -> list[Path]:
    """Create the authorities in `folder`; return their certificates. Raises: PkiError, OSError."""
    names = [f"{stem}{suffix}" for stem in (VENDOR, ROOT, INTERMEDIATE) for suffix in (".crt", ".key")]
    _refuse_existing([folder / name for name in (*names, f"{SIGNING}.key", f"{SIGNING}.pub")])
    folder.mkdir(parents=True, exist_ok=True)
    private, public = new_key_pair()
    _save_private(folder / f"{SIGNING}.key", private)
    (folder / f"{SIGNING}.pub").write_bytes(public)
    root = Authority.make("RAP test data center root")
    authorities_by_stem = {
        VENDOR: Authority.make("RAP test vendor"),
        ROOT: root,
        INTERMEDIATE: root.subordinate("RAP test data center"),
    }
    return [_save(folder, stem, authority) for stem, authority in authorities_by_stem.items()]


def issue(folder: Path, name: str, purpose: Purpose, hosts: tuple[str, ...] = ()) -> Identity:
    """Issue `name`'s certificate and key in `folder`; `hosts` are DNS names or addresses it serves.

    A box trusts the data center's root; an instrument and a data center trust the vendor's authority.

    Raises: PkiError, OSError.
    """
    _refuse_existing(_files(folder, name))
    signer, trusted = _authorities(folder, purpose)
    return signer.issue(folder, name, hosts=hosts, trusts=trusted)


def issue_for(
    folder: Path, name: str, purpose: Purpose, request: Path, hosts: tuple[str, ...] = ()
) -> list[Path]:
    """Issue `name`'s certificate for the key in a certificate request (PKCS #10, PEM); return the written files.

    Only the key and the name, which must be `name`, are taken from the request. Raises: PkiError, OSError.
    """
    certificate, key, authorities = _files(folder, name)
    _refuse_existing((certificate, key, authorities))
    public_key = _requested_key(request, name)
    signer, trusted = _authorities(folder, purpose)
    certificate.write_bytes(signer.certify(name, public_key, hosts=hosts))
    authorities.write_bytes(_pem(trusted))
    return [certificate, authorities]


def revoke(folder: Path, names: Iterable[str], days: int = CRL_DAYS) -> Path:
    """Add the certificates of these boxes and instruments to `vendor-ca.crl` and reissue the list.

    Without names the list is only renewed. Raises: PkiError, OSError.
    """
    vendor, crl = _load(folder, VENDOR), folder / f"{VENDOR}.crl"
    serials = dict.fromkeys(_revoked_serials(crl))
    for name in names:
        serials[_serial_number(_files(folder, name)[0], vendor)] = None
    draft = crl.with_suffix(".crl.new")
    draft.write_bytes(vendor.revoke(serials, days))
    draft.replace(crl)
    return crl


def _revoked_serials(crl: Path) -> list[int]:
    try:
        return [entry.serial_number for entry in x509.load_pem_x509_crl(crl.read_bytes())]
    except FileNotFoundError:
        return []
    except CERTIFICATE_ERRORS as error:
        raise PkiError(f"{crl}: is not a certificate revocation list in PEM: {error}") from None


def _serial_number(file: Path, vendor: Authority) -> int:
    """Return the serial number of the certificate in `file`, which `vendor` must have issued."""
    try:
        certificate = load_certificates(file.read_bytes())[0]
    except FileNotFoundError:
        raise PkiError(f"{file} is missing: give the name of a certificate in this folder") from None
    except CERTIFICATE_ERRORS as error:
        raise PkiError(f"{file}: is not a certificate in PEM: {error}") from None
    if certificate.issuer != vendor.certificate.subject:
        raise PkiError(
            f"{file}: was not issued by {VENDOR}; give the certificate of a box or instrument that it issued"
        )
    return certificate.serial_number


def certify(folder: Path, name: str, purpose: Purpose, public_key: PublicKey) -> tuple[bytes, bytes, bytes]:
    """Return `name`'s certificate chain, the vendor's authority and the data center's root, in PEM.

    Writes no file. Raises: PkiError, OSError.
    """
    signer, _ = _authorities(folder, purpose)
    vendor, root = _load(folder, VENDOR), _load(folder, ROOT)
    return signer.certify(name, public_key), _pem(vendor), _pem(root)


def _files(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Return the paths of certificate, key and authorities."""
    if not _NAME.fullmatch(name):
        raise PkiError(f'"{name}": a name has capital letters, digits and "-", at most 24, such as RAP-0001')
    stem = name.lower()
    return folder / f"{stem}.crt", folder / f"{stem}.key", folder / f"{stem}.ca.crt"


def _authorities(folder: Path, purpose: Purpose) -> tuple[Authority, Authority]:
    """Return the signing authority for this purpose, and the authority that the signed certificate's owner trusts."""
    vendor, root = _load(folder, VENDOR), _load(folder, ROOT)
    if purpose != "datacenter":
        return vendor, root if purpose == "box" else vendor
    intermediate = _load(folder, INTERMEDIATE)
    return replace(intermediate, root=root.certificate, chain=(intermediate.certificate,)), vendor


def _requested_key(request: Path, name: str) -> PublicKey:
    """Return the key of a request, which must be for this name and signed with that key. Raises: PkiError."""
    try:
        return requested_key(x509.load_pem_x509_csr(request.read_bytes()), name)
    except OSError as error:
        raise PkiError(f"{request}: cannot be read: {error.strerror}") from None
    except RequestError as error:
        raise PkiError(f"{request}: {error}") from None
    except CERTIFICATE_ERRORS as error:
        raise PkiError(f"{request}: is not a certificate request in PEM: {error}") from None


def _refuse_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise PkiError(
                f"{path} exists and is not overwritten: give another folder or name, or remove it first"
            )


def _save(folder: Path, stem: str, authority: Authority) -> Path:
    private = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _save_private(folder / f"{stem}.key", private)
    certificate = folder / f"{stem}.crt"
    certificate.write_bytes(_pem(authority))
    return certificate


def _save_private(file: Path, key: bytes) -> None:
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(key)


def _pem(authority: Authority) -> bytes:
    return authority.certificate.public_bytes(serialization.Encoding.PEM)


def _load(folder: Path, stem: str) -> Authority:
    try:
        key = serialization.load_pem_private_key((folder / f"{stem}.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((folder / f"{stem}.crt").read_bytes())
    except FileNotFoundError as error:
        raise PkiError(
            f"{error.filename} is missing: create the authorities first, with `rap pki init {folder}`"
        ) from None
    except (*CERTIFICATE_ERRORS, TypeError) as error:
        raise PkiError(f"{folder / stem}.key or .crt is not an unencrypted PEM file: {error}") from None
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    name = str(certificate.subject.rdns[0].rfc4514_string().partition("=")[2])
    return Authority(name, key, certificate, certificate, _serial=x509.random_serial_number())
