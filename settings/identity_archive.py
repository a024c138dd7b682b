"""An identity as it travels to its box: files in a raw partition of its own.

There is no file system in it, whose driver a first start might lack and whose state a power cut might tear: one
sector of text,

    RAP-IDENTITY 1
    <length of the archive>
    <SHA-256 of the archive, hexadecimal>

padded with zeros to 512 bytes, and then a POSIX tar archive. A shell can read it: `tail -c +513`, `head -c LENGTH`,
`sha256sum`, `tar x`.

Making an identity takes cryptography (`identity.py`). Taking it out of here does not, and so it begins at once where
the box does it, at its first start.
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
SERIAL, SITE, KEY, CERTIFICATE = "serial", "site.toml", "box.key", "box.crt"
VENDOR_AUTHORITY, DATACENTER_AUTHORITY = "vendor-ca.crt", "datacenter-root.crt"
SECRET_MODE: Final = 0o600


class IdentityError(Exception):
    """What was given or found is no identity of a box, or not of this one; the message says what would be right."""


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
