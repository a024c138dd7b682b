"""The files in an uncompressed initramfs, which is a sequence of cpio archives in the format "newc".

Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

MAGIC: Final = b"070701"
_HEADER: Final = re.compile(rb"070701(?:[0-9A-Fa-f]{8}){13}")
_HEADER_BYTES: Final = 110
_SIZE_AT, _NAME_SIZE_AT = 54, 94
_ALIGNMENT: Final = 4
_LAST: Final = "TRAILER!!!"


class Member(NamedTuple):
    """A file in an archive: its path, and the offsets at which its content begins and ends."""

    name: str
    start: int
    end: int


def members(archive: bytes) -> Iterator[Member]:
    """Yield the files with content, up to the first byte outside of an archive."""
    at = 0
    while _HEADER.match(archive, at):
        size, name_bytes = (
            int(archive[at + field : at + field + 8], 16) for field in (_SIZE_AT, _NAME_SIZE_AT)
        )
        start = _aligned(at + _HEADER_BYTES + name_bytes)
        if start + size > len(archive):
            return
        name = (
            archive[at + _HEADER_BYTES : at + _HEADER_BYTES + name_bytes]
            .rstrip(b"\0")
            .decode(errors="replace")
        )
        if size:
            yield Member(name, start, start + size)
        at = _aligned(start + size)
        if name == _LAST:  # zeros until the next archive
            at = len(archive) - len(archive[at:].lstrip(b"\0"))


def _aligned(at: int) -> int:
    return -(-at // _ALIGNMENT) * _ALIGNMENT
