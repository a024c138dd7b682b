"""A flash that is cut off at every write, in every way that a disk may tear it, never leaves a disk that starts half.

A disk keeps what was flushed. Of what was written since, a power cut leaves any of it in any order, and of a write
any of its sectors. Whether it then starts is judged twice: by a firmware that follows the UEFI specification, and by
a careless one, which starts from anything that looks like a boot sector or either copy of the partition table.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from random import Random

import pytest

from imaging.flash.plan import Plan, make_plan
from imaging.flash.source import Image, open_image
from imaging.flash.write import flash
from tests.imaging.flash_images import (
    IMAGE_BYTES,
    MIB,
    MemoryDisk,
    gpt,
    public_key,
    raw_image,
    sign,
)

DISK_BYTES = IMAGE_BYTES + 3 * MIB
VARIANTS = 4


def header_is_valid(disk: bytes, block: int) -> bool:
    sector = disk[block * 512 : (block + 1) * 512]
    if sector[:8] != b"EFI PART":
        return False
    crc, mine, entries, count, size, entries_crc = struct.unpack("<16xI4xQ40xQIII", sector[:92])
    if zlib.crc32(sector[:16] + bytes(4) + sector[20:92]) != crc or mine != block:
        return False
    return zlib.crc32(disk[entries * 512 : entries * 512 + count * size]) == entries_crc


def starts_anywhere(disk: bytes) -> bool:
    last = len(disk) // 512 - 1
    return disk[510:512] == b"\x55\xaa" or header_is_valid(disk, 1) or header_is_valid(disk, last)


def starts_by_specification(disk: bytes) -> bool:
    protective = disk[510:512] == b"\x55\xaa" and disk[450] == 0xEE
    last = len(disk) // 512 - 1
    return protective and (header_is_valid(disk, 1) or header_is_valid(disk, last))


def old_disk() -> bytes:
    """A disk that starts: another system, whose partitions are full."""
    front, back = gpt(DISK_BYTES)
    middle = Random(7).randbytes(DISK_BYTES - len(front) - len(back))
    return front + middle + back


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    file = sign(raw_image(tmp_path_factory.mktemp("image") / "box.raw"))
    with open_image(file, public_key(file)) as opened:
        yield opened


@pytest.fixture(scope="module")
def plan(image: Image) -> Plan:
    return make_plan(image, DISK_BYTES, b"identity".ljust(1024, b"\0"))


@pytest.fixture(scope="module")
def finished(image: Image, plan: Plan) -> MemoryDisk:
    disk = MemoryDisk(old_disk())
    flash(plan, image, disk, in_flight=1)
    return disk


def cuts(trace: list[tuple[int, bytes] | None]) -> Iterator[bytearray]:
    """What a cut may leave: at every write, whole, torn, and with those since the last flush in any order."""
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
    """The first sector, the first page, the first half."""
    offset, data = write
    for size in (512, 4096, len(data) // 1024 * 512):
        yield offset, data[:size]


def torn(write: tuple[int, bytes], random: Random) -> tuple[int, bytes]:
    """A stretch of the write's sectors; the others stay as they were."""
    offset, data = write
    sectors = len(data) // 512
    first = random.randrange(sectors)
    last = random.randint(first, sectors)
    return offset + first * 512, data[first * 512 : last * 512]


def test_a_cut_leaves_the_old_system_or_the_new_one_or_a_disk_that_does_not_start(
    plan: Plan, finished: MemoryDisk
) -> None:
    old, new = old_disk(), bytes(finished.content)
    inner = slice(MIB, plan.tail.offset)
    seen = 0
    for left in cuts(finished.trace):
        seen += 1
        if starts_by_specification(left) and left[inner] != old[inner]:
            assert left == new
        if starts_anywhere(left):
            assert left[inner] in (old[inner], new[inner])
    assert seen > 6 * len([entry for entry in finished.trace if entry])


def test_every_cut_can_be_resumed(image: Image, plan: Plan, finished: MemoryDisk) -> None:
    for left in cuts(finished.trace):
        disk = MemoryDisk(bytes(left))
        flash(plan, image, disk, resume=True, in_flight=1)
        assert disk.content == finished.content


def test_resuming_keeps_what_is_right_and_writes_the_rest(
    image: Image, plan: Plan, finished: MemoryDisk
) -> None:
    disk = MemoryDisk(bytes(finished.content))
    wrong = plan.ranges[1]
    disk.content[wrong.offset] ^= 1
    flash(plan, image, disk, resume=True)
    ranges = {span.offset for span in plan.ranges}
    assert [entry[0] for entry in disk.trace if entry and entry[0] in ranges] == [wrong.offset]
    assert disk.content == finished.content


def test_the_judges_know_a_disk_that_starts(finished: MemoryDisk) -> None:
    for disk in (old_disk(), bytes(finished.content)):
        assert starts_anywhere(disk)
        assert starts_by_specification(disk)


def test_the_very_first_sector_is_the_last_write(finished: MemoryDisk) -> None:
    writes = [entry for entry in finished.trace if entry]
    assert (writes[-1][0], len(writes[-1][1])) == (0, 512)
    assert finished.trace[-1] is None
