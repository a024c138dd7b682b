"""Flashing to disks in memory that fail while they are written, or that return other data than was written."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.flash import gpt as tables
from imaging.flash.plan import FlashPlan, gaps, make_plan
from imaging.flash.source import Image, open_image
from imaging.flash.target import DeviceError
from imaging.flash.write import ReadbackMismatch, flash
from imaging.media.imagefile import ImageError
from tests.support.imaging.flash.images import (
    IMAGE_BYTES,
    MIB,
    MemoryDisk,
    gpt,
    guids,
    public_key,
    raw_image,
    sign,
)

DISK_BYTES = IMAGE_BYTES + 3 * MIB


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    file = sign(raw_image(tmp_path / "box.raw"), compressed=True)
    with open_image(file, public_key(file)) as opened:
        yield opened


@pytest.fixture
def plan(image: Image) -> FlashPlan:
    return make_plan(image, DISK_BYTES)


class FakeCapacityStick(MemoryDisk):
    """Claims more capacity than it has: accesses beyond its end wrap to the beginning."""

    capacity = 5 * MIB

    def read(self, offset: int, into: memoryview) -> None:
        for at in range(0, len(into), 512):
            start = (offset + at) % self.capacity
            into[at : at + 512] = self.content[start : start + 512]

    def write(self, offset: int, data: memoryview) -> None:
        for at in range(0, len(data), 512):
            super().write((offset + at) % self.capacity, data[at : at + 512])


class BadSector(MemoryDisk):
    """Accepts all writes, but changes one byte in reads."""

    bad = 3 * MIB + 100

    def read(self, offset: int, into: memoryview) -> None:
        super().read(offset, into)
        if offset <= self.bad < offset + len(into):
            into[self.bad - offset] ^= 1


class Forger(MemoryDisk):
    """Returns other bytes with the same CRC-32, by adding a multiple of its polynomial."""

    forged = 3 * MIB + 100
    same_crc = (0x104C11DB7 << 7).to_bytes(5, "big")
    mask = bytes(int(f"{byte:08b}"[::-1], 2) for byte in same_crc)  # the CRC processes the lowest bit first

    def read(self, offset: int, into: memoryview) -> None:
        super().read(offset, into)
        if offset <= self.forged < offset + len(into):
            at = self.forged - offset
            crc = zlib.crc32(into)
            into[at : at + 5] = bytes(a ^ b for a, b in zip(into[at : at + 5], self.mask, strict=True))
            assert zlib.crc32(into) == crc


def is_boot_sector(disk: MemoryDisk) -> bool:
    return disk.content[510:512] == b"\x55\xaa"


@pytest.mark.parametrize("kind", [FakeCapacityStick, BadSector, Forger])
def test_a_disk_that_returns_other_data_than_written_is_detected(
    image: Image, plan: FlashPlan, kind: type[MemoryDisk]
) -> None:
    disk = kind(bytes(DISK_BYTES))
    with pytest.raises(ReadbackMismatch, match="use another"):
        flash(plan, image, disk)
    assert not is_boot_sector(disk)


def test_a_first_sector_that_cannot_be_read_back_is_erased(image: Image, plan: FlashPlan) -> None:
    disk = BadSector(bytes(DISK_BYTES))
    disk.bad = 300
    with pytest.raises(ReadbackMismatch):
        flash(plan, image, disk)
    assert not is_boot_sector(disk)


def test_a_disk_removed_at_any_write_is_reported_and_the_flash_can_be_resumed(
    image: Image, plan: FlashPlan
) -> None:
    complete = MemoryDisk(bytes(DISK_BYTES))
    flash(plan, image, complete)
    writes = len([entry for entry in complete.trace if entry])
    for count in range(writes):
        disk = MemoryDisk(bytes(DISK_BYTES))
        disk.removed_after_writes = count
        with pytest.raises(DeviceError):
            flash(plan, image, disk)
        assert not is_boot_sector(disk)
        disk.removed_after_writes = None
        flash(plan, image, disk, resume=True)
        assert disk.content == complete.content


def test_each_phase_counts_the_bytes_of_the_plan_once(image: Image, plan: FlashPlan) -> None:
    seen: Counter[str] = Counter()
    flash(plan, image, MemoryDisk(bytes(DISK_BYTES)), progress=lambda phase, size: seen.update({phase: size}))
    assert seen == {"writing": plan.bulk_bytes, "reading back": plan.bulk_bytes}


def test_the_backup_table_moves_to_the_end_of_the_disk(plan: FlashPlan) -> None:
    front, back = gpt(DISK_BYTES, guids(plan.head))
    assert plan.head[440 : len(front)] == front[440:]
    assert (plan.tail.offset, plan.tail.data) == (DISK_BYTES - len(back), back)


def test_on_a_disk_of_the_images_size_the_backup_table_stays(image: Image) -> None:
    plan = make_plan(image, IMAGE_BYTES)
    disk = MemoryDisk(b"\xff" * IMAGE_BYTES)
    flash(plan, image, disk)
    _, back = gpt(IMAGE_BYTES, guids(plan.head))
    assert disk.content[-len(back) :] == back


@pytest.mark.parametrize("damaged", [450, 520, 1100])
def test_an_image_without_a_valid_table_is_refused(tmp_path: Path, damaged: int) -> None:
    raw = raw_image(tmp_path / "box.raw")
    with raw.open("r+b") as file:
        file.seek(damaged)
        file.write(b"\x01")
    sign(raw)
    with open_image(raw, public_key(raw)) as image, pytest.raises(ImageError, match=r"box\.raw: has "):
        make_plan(image, DISK_BYTES)


def test_an_image_that_contains_an_identity_is_refused(tmp_path: Path) -> None:
    raw = raw_image(tmp_path / "box.raw")
    with raw.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"RAP-IDENTITY")
    sign(raw)
    with (
        open_image(raw, public_key(raw)) as image,
        pytest.raises(ImageError, match="contains the identity of a box"),
    ):
        make_plan(image, DISK_BYTES, b"identity".ljust(512, b"\0"))


def test_gaps_between_mapped_ranges_are_computed() -> None:
    assert list(gaps(10, 20, [])) == [(10, 20)]
    assert list(gaps(10, 20, [(0, 12), (14, 16), (30, 40)])) == [(12, 14), (16, 20)]
    assert list(gaps(10, 20, [(5, 25)])) == []


def test_partitions_of_a_table_are_read(plan: FlashPlan) -> None:
    assert tables.slices(plan.head) == list(plan.slices)
    assert [part.label for part in plan.slices] == ["esp", "rap-identity", "root-a", "var"]


def test_an_invalid_utf_16_label_is_read_up_to_the_error(plan: FlashPlan) -> None:
    head = bytearray(plan.head)
    at = head.index("root-a".encode("utf-16-le"))
    head[at : at + 2] = b"\x00\xdc"  # the second half of a surrogate pair
    entries = head[2 * 512 : 2 * 512 + 128 * 128]
    head[512 + 88 : 512 + 92] = zlib.crc32(entries).to_bytes(4, "little")
    head[512 + 16 : 512 + 20] = bytes(4)
    head[512 + 16 : 512 + 20] = zlib.crc32(head[512 : 512 + 92]).to_bytes(4, "little")
    assert [part.label for part in tables.slices(bytes(head))][2] == "\ufffdoot-a"


class Watched(MemoryDisk):
    """Fails reads of data that was not flushed, which a disk would return from its cache."""

    def read(self, offset: int, into: memoryview) -> None:
        for entry in reversed(self.trace):
            if entry is None:
                break
            at, data = entry
            assert at + len(data) <= offset or offset + len(into) <= at, f"byte {offset} is read unflushed"
        super().read(offset, into)


def test_data_is_flushed_before_it_is_read_back(image: Image, plan: FlashPlan) -> None:
    disk = Watched(bytes(DISK_BYTES))
    flash(plan, image, disk)
    assert is_boot_sector(disk)


class FailsItsLastFlush(MemoryDisk):
    """Accepts the boot sector, and then fails to flush it."""

    failed = False

    def flush(self) -> None:
        if is_boot_sector(self) and not self.failed:
            self.failed = True
            raise DeviceError("cannot be flushed")
        super().flush()


def test_a_first_sector_that_cannot_be_flushed_is_erased(image: Image, plan: FlashPlan) -> None:
    disk = FailsItsLastFlush(bytes(DISK_BYTES))
    with pytest.raises(DeviceError, match="cannot be flushed"):
        flash(plan, image, disk)
    assert disk.failed
    assert not is_boot_sector(disk)
    assert disk.trace[-1] is None, "the erased first sector was not flushed"


def test_the_backup_table_is_durable_before_the_table_and_the_first_sector_is_last(
    image: Image, plan: FlashPlan
) -> None:
    disk = MemoryDisk(bytes(DISK_BYTES))
    flash(plan, image, disk)
    offsets = [None if entry is None else entry[0] for entry in disk.trace]
    begins = len(offsets) - 1 - offsets[::-1].index(plan.tail.offset)
    assert offsets[begins:] == [plan.tail.offset, None, 512, None, 0, None]
