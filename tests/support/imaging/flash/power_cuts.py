"""The states in which a power cut can leave a disk during a flash, and whether the disk boots from them.

A disk keeps all flushed data; of the writes after the last flush, a power cut may leave any subset of sectors. Two
models decide whether the disk then boots: firmware that follows the UEFI specification, and lenient firmware, which
boots from anything that looks like a boot sector or from either copy of the partition table.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from random import Random

from imaging.flash.plan import FlashPlan
from tests.support.imaging.flash.images import IMAGE_BYTES, MIB, MemoryDisk, gpt

DISK_BYTES = IMAGE_BYTES + 3 * MIB
VARIANTS = 4


def header_is_valid(disk: bytes | bytearray, block: int) -> bool:
    sector = disk[block * 512 : (block + 1) * 512]
    if sector[:8] != b"EFI PART":
        return False
    crc, mine, entries, count, size, entries_crc = struct.unpack("<16xI4xQ40xQIII", sector[:92])
    if zlib.crc32(sector[:16] + bytes(4) + sector[20:92]) != crc or mine != block:
        return False
    in_use: bytes | bytearray = disk[entries * 512 : entries * 512 + count * size]
    return bool(zlib.crc32(in_use) == entries_crc)


def starts_anywhere(disk: bytes | bytearray) -> bool:
    last = len(disk) // 512 - 1
    return disk[510:512] == b"\x55\xaa" or header_is_valid(disk, 1) or header_is_valid(disk, last)


def starts_by_specification(disk: bytes | bytearray) -> bool:
    protective = disk[510:512] == b"\x55\xaa" and disk[450] == 0xEE
    last = len(disk) // 512 - 1
    return protective and (header_is_valid(disk, 1) or header_is_valid(disk, last))


def old_disk() -> bytes:
    """Return a bootable disk that is filled with another system."""
    front, back = gpt(DISK_BYTES)
    middle = Random(7).randbytes(DISK_BYTES - len(front) - len(back))
    return front + middle + back


def cuts(trace: list[tuple[int, bytes] | None]) -> Iterator[bytearray]:
    """Yield states that a cut can leave: after every write and flush, with the last write torn, and with random parts
    of the unflushed writes in any order.
    """
    random = Random(3)
    durable = bytearray(old_disk())
    since: list[tuple[int, bytes]] = []
    for entry in [*trace, None]:
        if entry is not None:
            since.append(entry)
            yield applied(durable, since)
            for cut in (*beginnings(entry), torn(entry, random)):
                yield applied(durable, [*since[:-1], cut])
            for _ in range(VARIANTS):
                some = random.sample(since, random.randint(0, len(since)))
                yield applied(durable, [torn(write, random) for write in some])
        else:
            durable = applied(durable, since)
            since = []
            yield bytearray(durable)


def applied(disk: bytearray, writes: list[tuple[int, bytes]]) -> bytearray:
    left = bytearray(disk)
    for offset, data in writes:
        left[offset : offset + len(data)] = data
    return left


def beginnings(write: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the write cut off after its first sector, its first page and its first half."""
    offset, data = write
    for size in (512, 4096, len(data) // 1024 * 512):
        yield offset, data[:size]


def torn(write: tuple[int, bytes], random: Random) -> tuple[int, bytes]:
    """Return a write of which only a range of sectors reached the disk."""
    offset, data = write
    sectors = len(data) // 512
    first = random.randrange(sectors)
    last = random.randint(first, sectors)
    return offset + first * 512, data[first * 512 : last * 512]


def starts_half_written(left: bytes | bytearray, plan: FlashPlan, finished: MemoryDisk) -> bool:
    """Return whether one of the firmwares boots a disk that is neither the old system nor the complete new one."""
    old, new = old_disk(), bytes(finished.content)
    inner = slice(MIB, plan.tail.offset)
    if starts_by_specification(left) and left[inner] != old[inner] and left != new:
        return True
    return starts_anywhere(left) and left[inner] not in (old[inner], new[inner])
