"""A test hierarchy of certificates in a folder, so that it can grow: authorities first, then one device at a time.

    vendor-ca              root; signs boxes and instruments
    datacenter-root        root of the data center's public-style chain
    datacenter-ca          intermediate beneath it; signs data centers

Each is a `.crt` and, readable by its owner alone, a `.key`. No file is ever overwritten.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from wire.pki import Authority
from wire.tls import Identity

Purpose: TypeAlias = Literal["box", "instrument", "datacenter"]

VENDOR: Final = "vendor-ca"
ROOT: Final = "datacenter-root"
INTERMEDIATE: Final = "datacenter-ca"

# As in wire.messages.Serial: what a device's certificate says is how its records are known.
_NAME: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,23}")


class PkiError(Exception):
    """The folder is not what the command needs; the message says what would be right. Nothing was written."""


def init(folder: Path) -> list[Path]:
    """Make the authorities in `folder`; returns their certificates. Raises PkiError, OSError."""
    _refuse_existing(
        [folder / f"{stem}{end}" for stem in (VENDOR, ROOT, INTERMEDIATE) for end in (".crt", ".key")]
    )
    folder.mkdir(parents=True, exist_ok=True)
    root = Authority.make("RAP test data center root")
    made = {
        VENDOR: Authority.make("RAP test vendor"),
        ROOT: root,
        INTERMEDIATE: root.subordinate("RAP test data center"),
    }
    return [_save(folder, stem, authority) for stem, authority in made.items()]


def issue(folder: Path, name: str, purpose: Purpose, hosts: tuple[str, ...] = ()) -> Identity:
    """Issue `name`'s certificate and key in `folder`; `hosts` are DNS names or addresses it serves.

    A box believes the data center's root, an instrument and a data center the vendor's authority. Raises
    PkiError, OSError.
    """
    if not _NAME.fullmatch(name):
        raise PkiError(f'"{name}": a name is capital letters, digits and "-", at most 24, such as RAP-0001')
    _refuse_existing([folder / f"{name.lower()}{end}" for end in (".crt", ".key", ".ca.crt")])
    vendor, root = _load(folder, VENDOR), _load(folder, ROOT)
    intermediate = _load(folder, INTERMEDIATE)
    signer = vendor
    if purpose == "datacenter":
        signer = replace(intermediate, root=root.certificate, chain=(intermediate.certificate,))
    return signer.issue(folder, name, hosts=hosts, believes=root if purpose == "box" else vendor)


def _refuse_existing(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise PkiError(
                f"{path} exists, and is not overwritten: give another folder or name, or remove it first"
            )


def _save(folder: Path, stem: str, authority: Authority) -> Path:
    key = folder / f"{stem}.key"
    key.touch(mode=0o600, exist_ok=False)
    key.write_bytes(
        authority.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate = folder / f"{stem}.crt"
    certificate.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


def _load(folder: Path, stem: str) -> Authority:
    try:
        key = serialization.load_pem_private_key((folder / f"{stem}.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((folder / f"{stem}.crt").read_bytes())
    except FileNotFoundError as error:
        raise PkiError(
            f"{error.filename} is missing: make the authorities first, with `rap pki init {folder}`"
        ) from None
    except (ValueError, TypeError) as error:
        raise PkiError(f"{folder / stem}.key or .crt is not an unencrypted PEM file: {error}") from None
    assert isinstance(key, rsa.RSAPrivateKey)
    name = str(certificate.subject.rdns[0].rfc4514_string().partition("=")[2])
    return Authority(name, key, certificate, certificate, (), x509.random_serial_number())
