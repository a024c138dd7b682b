"""A power cut during a flash never leaves a half-written disk that boots, even if writes were torn or reordered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imaging.flash.plan import FlashPlan, make_plan
from imaging.flash.source import Image, open_image
from imaging.flash.write import flash
from tests.support.imaging.flash.images import MemoryDisk, public_key, raw_image, sign
from tests.support.imaging.flash.power_cuts import (
    DISK_BYTES,
    cuts,
    old_disk,
    starts_anywhere,
    starts_by_specification,
    starts_half_written,
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    file = sign(raw_image(tmp_path_factory.mktemp("image") / "box.raw"))
    with open_image(file, public_key(file)) as opened:
        yield opened


@pytest.fixture(scope="module")
def plan(image: Image) -> FlashPlan:
    return make_plan(image, DISK_BYTES, b"identity".ljust(1024, b"\0"))


@pytest.fixture(scope="module")
def finished(image: Image, plan: FlashPlan) -> MemoryDisk:
    disk = MemoryDisk(old_disk())
    flash(plan, image, disk, in_flight=1)
    return disk


@pytest.mark.slow("a power cut at each write of a flash")
def test_a_power_cut_leaves_the_old_system_the_new_one_or_a_disk_that_does_not_boot(
    plan: FlashPlan, finished: MemoryDisk
) -> None:
    seen = 0
    for left in cuts(finished.trace):
        seen += 1
        assert not starts_half_written(left, plan, finished)
    assert seen > 6 * len([entry for entry in finished.trace if entry])


@pytest.mark.slow("a power cut at each write of a flash")
def test_a_flash_can_be_resumed_after_any_power_cut(
    image: Image, plan: FlashPlan, finished: MemoryDisk
) -> None:
    for left in cuts(finished.trace):
        disk = MemoryDisk(bytes(left))
        flash(plan, image, disk, resume=True, in_flight=1)
        assert disk.content == finished.content


def test_resuming_keeps_correct_pieces_and_writes_the_rest(
    image: Image, plan: FlashPlan, finished: MemoryDisk
) -> None:
    disk = MemoryDisk(bytes(finished.content))
    changed = plan.ranges[1]
    disk.content[changed.offset] ^= 1
    flash(plan, image, disk, resume=True)
    ranges = {span.offset for span in plan.ranges}
    assert [entry[0] for entry in disk.trace if entry and entry[0] in ranges] == [changed.offset]
    assert disk.content == finished.content


def test_the_boot_check_recognizes_a_bootable_disk(finished: MemoryDisk) -> None:
    for disk in (old_disk(), bytes(finished.content)):
        assert starts_anywhere(disk)
        assert starts_by_specification(disk)


def test_the_first_sector_is_written_last(finished: MemoryDisk) -> None:
    writes = [entry for entry in finished.trace if entry]
    assert (writes[-1][0], len(writes[-1][1])) == (0, 512)
    assert finished.trace[-1] is None
