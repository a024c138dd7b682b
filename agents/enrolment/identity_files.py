"""The identity in use as PEM files, since OpenSSL reads keys and certificates only from files.

They are in a folder that only this user can read, and are removed when the program ends.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agents.enrolment.certificate_files import BoxCertificates
from agents.enrolment.records import IdentityRecord


class IdentityFiles:
    """Writes records as files; `configured` are the files of the flashed identity."""

    def __init__(self, configured: BoxCertificates) -> None:
        self._configured = configured
        self._folder: Path | None = None
        self._written = 0

    def write(self, record: IdentityRecord) -> BoxCertificates:
        """Write a record; return its files, with the remaining files of the configuration. Raises: OSError."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rap-identity-"))
        self._written += 1
        folder = self._folder / str(self._written)
        folder.mkdir(mode=0o700)
        files = msgspec.structs.replace(
            self._configured, certificate=folder / "box.crt", key=folder / "box.key"
        )
        files.key.touch(mode=0o600)
        files.key.write_bytes(record.key_file())
        files.certificate.write_bytes(_pem(record.chain))
        if record.authorities:
            vendor = _joined(folder / "vendor.crt", self._configured.vendor_authority, record.authorities)
            files = msgspec.structs.replace(files, vendor_authority=vendor)
        if record.roots:
            root = _joined(folder / "datacenter.crt", self._configured.datacenter_authority, record.roots)
            files = msgspec.structs.replace(files, datacenter_authority=root)
        return files

    def remove(self) -> None:
        """Remove all files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _pem(certificates: tuple[bytes, ...]) -> bytes:
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates)


def _joined(file: Path, configured: Path, named: tuple[bytes, ...]) -> Path:
    """Write the certificates of the configuration and those that the data center has named to a file; return it."""
    file.write_bytes(configured.read_bytes().rstrip() + b"\n" + _pem(named))
    return file
