"""Partition tables with one changed field and valid checksums."""

from __future__ import annotations

import struct
import zlib

HEADER = 512
ENTRIES = 1024


def with_label(front: bytes, label: str, beginning: bytes) -> bytes:
    """Return the first blocks of a disk in which `beginning` overwrites the first bytes of one partition's label."""
    at = front.index(label.encode("utf-16-le"))
    return with_checksums(front[:at] + beginning + front[at + len(beginning) :])


def with_field(front: bytes, offset: int, layout: str, value: int, *, checksums: bool = True) -> bytes:
    """Return the first blocks of a disk with `value`, packed as `layout`, at an offset in the header."""
    changed = bytearray(front)
    struct.pack_into(layout, changed, HEADER + offset, value)
    return with_checksums(bytes(changed)) if checksums else bytes(changed)


def with_checksums(front: bytes) -> bytes:
    """Return the first blocks of a disk with the checksums of the entries and the header recomputed."""
    changed = bytearray(front)
    size, count, length = (struct.unpack_from("<I", front, HEADER + at)[0] for at in (12, 80, 84))
    struct.pack_into("<I", changed, HEADER + 88, zlib.crc32(changed[ENTRIES : ENTRIES + count * length]))
    struct.pack_into("<I", changed, HEADER + 16, 0)
    struct.pack_into("<I", changed, HEADER + 16, zlib.crc32(changed[HEADER : HEADER + size]))
    return bytes(changed)
