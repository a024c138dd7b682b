"""GUID partition tables (UEFI specification 2.10, chapter 5): reading one, and adapting one to another disk.

A disk has two copies of the table. The first has its header in block 1, followed by the entries; the second is at the
end of the disk, with its header in the last block. Block 0 is a protective MBR, without which firmware accepts
neither copy. An image is smaller than most disks to which it is written: the second copy must move to the end of the
disk, and both headers must contain its new position. The last partition grows to the end of the disk if its
attributes allow it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from settings.encrypted import PREFIX

SECTOR: Final = 512
ENTRIES_BYTES: Final = 128 * 128
TAIL_BYTES: Final = ENTRIES_BYTES + SECTOR
"""The size of the copy at the end of a disk."""
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_MAGIC: Final = b"EFI PART"
_PROTECTIVE: Final = 0xEE
GROW_BIT: Final = 59
"""The bit of the attribute that lets a partition grow (Discoverable Partitions Specification, grow-file-system)."""
_ALIGNMENT: Final = 2048
"""In sectors: partitions begin and end at multiples of 1 MiB."""


class GptError(Exception):
    """The table cannot be used; the message states why."""


@dataclass(frozen=True)
class Slice:
    """A partition: `offset` and `length` in bytes; `id` is its UUID."""

    label: str
    offset: int
    length: int
    id: str = field(default="", compare=False)


def has_protective_mbr(sector: bytes) -> bool:
    """Return whether block 0 is a protective MBR, which firmware requires of a GPT disk."""
    kinds = (sector[446 + 16 * index + 4] for index in range(4))
    return sector[510:512] == b"\x55\xaa" and _PROTECTIVE in kinds


def slices(head: bytes) -> list[Slice]:
    """Read the partitions, in the order of the table, from the first MiB of the disk. Raises: GptError."""
    fields = _read(head[SECTOR : 2 * SECTOR], head[2 * SECTOR :], 1)
    count, size = fields[11], fields[12]
    partitions = []
    for index in range(count):
        at = 2 * SECTOR + index * size
        kind, own, first, last, _, label = _ENTRY.unpack_from(head, at)
        if any(kind):
            length = (last + 1 - first) * SECTOR
            partitions.append(Slice(_text(label), first * SECTOR, length, str(UUID(bytes_le=own))))
    return partitions


def fit(
    head: bytes, disk_bytes: int, draw: Callable[[int], bytes], encrypted: Container[str] = ()
) -> tuple[bytes, bytes]:
    """Adapt the partition table in the first MiB of an image to a disk of `disk_bytes`.

    Returns the first MiB and the last `TAIL_BYTES` of the disk.

    `draw` returns random bytes for the GUIDs of the disk and its partitions. The names of the partitions in
    `encrypted` get the prefix that makes the box encrypt them (`settings.encrypted`).

    Raises: GptError, if there is no table of 128 entries or no protective MBR, or if the partitions do not fit.
    """
    fields: list[Any] = list(_read(head[SECTOR : 2 * SECTOR], head[2 * SECTOR :], 1))
    if not has_protective_mbr(head):
        raise GptError("has no protective MBR, without which firmware cannot start it")
    if fields[11] * fields[12] != ENTRIES_BYTES or fields[10] != 2:
        raise GptError("has a partition table of unusual size: make it with 128 entries of 128 bytes")
    last = disk_bytes // SECTOR - 1
    usable = last - TAIL_BYTES // SECTOR
    if any(part.offset + part.length > (usable + 1) * SECTOR for part in slices(head)):
        raise GptError("has partitions that leave no space for the copy of the table at the end of the disk")
    entries = _entries(head[2 * SECTOR : 2 * SECTOR + ENTRIES_BYTES], usable, draw, encrypted)
    fields[8], fields[9], fields[13] = usable, _guid(draw), zlib.crc32(entries)
    front = _header([*fields[:5], 1, last, *fields[7:]])
    back = _header([*fields[:5], last, 1, *fields[7:10], usable + 1, *fields[11:]])
    mbr = _grow_protective(head[:SECTOR], last)
    return mbr + front + entries + head[2 * SECTOR + ENTRIES_BYTES :], entries + back


def _entries(entries: bytes, usable: int, draw: Callable[[int], bytes], encrypted: Container[str]) -> bytes:
    """Return the entries with new GUIDs, the last one grown if allowed; `usable` is the last usable sector."""
    changed = bytearray(entries)
    used = [at for at in range(0, len(changed), _ENTRY.size) if any(changed[at : at + 16])]
    for at in used:
        changed[at + 16 : at + 32] = _guid(draw)
        *others, label = _ENTRY.unpack_from(changed, at)
        if (text := _text(label)) in encrypted:
            _ENTRY.pack_into(changed, at, *others, (PREFIX + text).encode("utf-16-le"))
    if used:
        at = max(used, key=lambda at: _ENTRY.unpack_from(changed, at)[3])
        kind, own, first, last, flags, label = _ENTRY.unpack_from(changed, at)
        if flags >> GROW_BIT & 1:
            last = max(last, (usable + 1) // _ALIGNMENT * _ALIGNMENT - 1)
            _ENTRY.pack_into(changed, at, kind, own, first, last, flags, label)
    return bytes(changed)


def _text(label: bytes) -> str:
    return label.decode("utf-16-le", "replace").partition("\0")[0]


def _guid(draw: Callable[[int], bytes]) -> bytes:
    return UUID(bytes=draw(16), version=4).bytes_le


def _read(sector: bytes, entries: bytes, block: int) -> tuple[int, ...]:
    if len(sector) < SECTOR or sector[:8] != _MAGIC:
        raise GptError("has no GUID partition table")
    fields: tuple[int, ...] = _HEADER.unpack_from(sector)
    size, crc = fields[2], fields[3]
    blank = sector[:16] + bytes(4) + sector[20:size]
    if not _HEADER.size <= size <= SECTOR or zlib.crc32(blank) != crc or fields[5] != block:
        raise GptError("has a damaged partition table: its header is not valid")
    length = fields[11] * fields[12]
    if fields[12] != _ENTRY.size or length > len(entries) or zlib.crc32(entries[:length]) != fields[13]:
        raise GptError("has a damaged partition table: its entries' checksum is wrong")
    return fields


def _header(fields: list[Any]) -> bytes:
    fields[2:4] = [_HEADER.size, 0]
    crc = zlib.crc32(_HEADER.pack(*fields))
    return _HEADER.pack(*fields[:3], crc, *fields[4:]).ljust(SECTOR, b"\0")


def _grow_protective(mbr: bytes, last: int) -> bytes:
    """Extend the protective entry to the end of the disk, or as far as 32 bits allow."""
    grown = bytearray(mbr)
    for index in range(4):
        at = 446 + 16 * index
        if grown[at + 4] == _PROTECTIVE:
            struct.pack_into("<I", grown, at + 12, min(last, 0xFFFFFFFF))
    return bytes(grown)
