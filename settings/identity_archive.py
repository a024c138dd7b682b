"""The archive that carries a box's identity to the box: certificate, key and site file in a raw disk partition.

A box that starts before its certificate was issued moves only its key to its own storage. The certificate request
remains in the partition, so that the flashing station can still add the certificate.

The partition has no file system: the first boot needs no file system driver, and a power cut cannot corrupt file
system metadata. It starts with one sector of text,

    RAP-IDENTITY 1
    <length of the archive>
    <SHA-256 of the archive, hexadecimal>

padded with zeros to 512 bytes, followed by a POSIX tar archive. Shell tools can read it: `tail -c +513`,
`head -c LENGTH`, `sha256sum`, `tar x`.

This module uses no cryptography library, so that the box can unpack the archive early in its first boot. Identities
are created by `agents.provision` and `imaging.flash`.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from typing import Final

LABEL: Final = "rap-identity"
"""The partition's name in the GPT."""
HEADER_BYTES: Final = 512
_MAGIC: Final = "RAP-IDENTITY 1"
_HEADER: Final = re.compile(rf"{_MAGIC}\n(\d{{1,9}})\n([0-9a-f]{{64}})\n\0*")
SERIAL, SITE, KEY, REQUEST, CERTIFICATE = "serial", "site.toml", "box.key", "box.csr", "box.crt"
VENDOR_AUTHORITY, DATACENTER_AUTHORITY = "vendor-ca.crt", "datacenter-root.crt"
SECRET_MODE: Final = 0o600


class IdentityError(Exception):
    """The input is not a usable identity, or it is another box's. The message says how to correct it."""


def pack(files: dict[str, bytes]) -> bytes:
    """Return the partition's content, in whole sectors of 512 bytes. The same files give the same bytes."""
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
    """Return the files in a partition's content by name. Raises: IdentityError (no identity, or damaged)."""
    header = _HEADER.fullmatch(area[:HEADER_BYTES].decode("ascii", "replace"))
    if header is None:
        raise IdentityError("no identity on this disk: none was written, or the box has already imported it")
    data = area[HEADER_BYTES : HEADER_BYTES + int(header[1])]
    if hashlib.sha256(data).hexdigest() != header[2]:
        raise IdentityError("the identity on this disk is damaged: write the disk again")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        opened = [(entry.name, tar.extractfile(entry)) for entry in tar.getmembers()]
        return {name: file.read() for name, file in opened if file}
