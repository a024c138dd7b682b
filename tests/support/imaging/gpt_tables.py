"""Partition tables with one changed field and valid checksums."""

from __future__ import annotations

import struct
import zlib

HEADER = 512
ENTRIES = 1024


def with_label(front: bytes, label: str, other: bytes) -> bytes:
    """Return the first blocks of a disk with another beginning of one partition's name."""
    at = front.index(label.encode("utf-16-le"))
    return with_checksums(front[:at] + other + front[at + len(other) :])


def with_field(front: bytes, offset: int, layout: str, value: int, *, checksums: bool = True) -> bytes:
    """Return the first blocks of a disk with another value at an offset in the header."""
    changed = bytearray(front)
    struct.pack_into(layout, changed, HEADER + offset, value)
    return with_checksums(bytes(changed)) if checksums else bytes(changed)


def with_checksums(front: bytes) -> bytes:
    """Return the first blocks of a disk with recomputed checksums of header and entries."""
    changed = bytearray(front)
    size, count, length = (struct.unpack_from("<I", front, HEADER + at)[0] for at in (12, 80, 84))
    struct.pack_into("<I", changed, HEADER + 88, zlib.crc32(changed[ENTRIES : ENTRIES + count * length]))
    struct.pack_into("<I", changed, HEADER + 16, 0)
    struct.pack_into("<I", changed, HEADER + 16, zlib.crc32(changed[HEADER : HEADER + size]))
    return bytes(changed)
