"""The box's own keys and certificates on its disk: the one in use, and the next one.

Each is one file with a checksum, so that key and certificate cannot be separated. A file is written under another
name, flushed and renamed. A power cut at any moment therefore leaves the old or the new file, never a partial one:

    next   with a key alone          the certificate is requested, with the same key after each restart
    next   with its certificate      it is tried; `used`, or the flashed identity, is kept until `next` has worked
    used                             replaced by `next` in one step, once `next` has worked

Calls block, and are made on the thread of the disk. Files of the spool are on the same disk; names do not overlap.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from agents.disk_files import replace_file
from hal.disk import Disk, DiskError, DiskErrorKind
from wire.pki.hierarchy import PrivateKey
from wire.tls.certificates import CERTIFICATE_ERRORS
from wire.tls.tpm import TpmError, TpmKey, is_tpm_key, load_tpm_key

USED, NEXT = "identity-used.record", "identity-next.record"
_PART: Final = "identity-new.part"
_HASH_BYTES: Final = 32
RECORD_BYTES_MAX: Final = 64 * 1024


class IdentityRecord(msgspec.Struct, frozen=True, array_like=True):
    """A private key with its certificate chain, and the CAs of the vendor that the data center named last."""

    key: bytes
    """PKCS #8, DER; or the file of a key in the TPM (`wire.tls.tpm`)."""
    chain: tuple[bytes, ...] = ()
    """DER, the box's own certificate first; empty until it was issued."""
    authorities: tuple[bytes, ...] = ()
    """DER; empty: the CAs of the box's configuration."""
    roots: tuple[bytes, ...] = ()
    """DER: roots of the data center's own certificate that it has named, in addition to those of the box's
    configuration."""

    @classmethod
    def of_key(
        cls, key: PrivateKey, authorities: tuple[bytes, ...] = (), roots: tuple[bytes, ...] = ()
    ) -> IdentityRecord:
        """Return the record of a key without a certificate."""
        if isinstance(key, TpmKey):
            return cls(key.pem, (), authorities, roots)
        encoded = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return cls(encoded, (), authorities, roots)

    def private_key(self) -> PrivateKey:
        """Return the key. Raises: TpmError."""
        if is_tpm_key(self.key):
            return load_tpm_key(self.key)
        key = load_der_private_key(self.key, None)
        assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        return key

    def key_file(self) -> bytes:
        """Return the content of a file with the key, in PEM. Raises: TpmError."""
        if is_tpm_key(self.key):
            return self.key
        return self.private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def certificate(self) -> x509.Certificate:
        """Return the box's own certificate, which must have been issued."""
        return x509.load_der_x509_certificate(self.chain[0])


class IdentityRecords:
    """The records on a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def load(self, name: str) -> IdentityRecord | None:
        """Return a record; None if there is none, or if it is damaged. Raises: DiskError UNAVAILABLE."""
        try:
            size = self._disk.size(name)
            data = self._disk.read(name, 0, min(size, RECORD_BYTES_MAX))
        except DiskError as error:
            if error.kind is DiskErrorKind.UNAVAILABLE:
                raise
            return None
        digest, content = data[:_HASH_BYTES], data[_HASH_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        try:
            record = msgspec.msgpack.decode(content, type=IdentityRecord)
            record.private_key()
            for der in (*record.chain, *record.authorities, *record.roots):
                x509.load_der_x509_certificate(der)
        except (msgspec.DecodeError, AssertionError, TpmError, *CERTIFICATE_ERRORS):
            return None
        return record

    def save_next(self, record: IdentityRecord) -> None:
        """Store the next record, in place of an earlier one; durable on return. Raises: DiskError."""
        content = msgspec.msgpack.encode(record)
        data = hashlib.sha256(content).digest() + content
        replace_file(self._disk, NEXT, data, _PART)

    def use_next(self) -> None:
        """Replace the record in use by the next one, in one step; durable on return. Raises: DiskError."""
        self._disk.rename(NEXT, USED)

    def drop_next(self) -> None:
        """Remove the next record; durable on return. Raises: DiskError."""
        self._disk.remove(NEXT)
