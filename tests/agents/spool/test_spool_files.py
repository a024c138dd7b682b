"""Missing, resized, duplicated or foreign segment files: lost numbers are reported, and no number is reused."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from agents.spool import GapReason, Priority, Spool, SpoolError, SpoolLimits
from hal.disk import Disk, DiskError, DiskErrorKind
from hal.emul.disk import EmulDisk
from hal.linux.disk import DESCRIPTORS_MAX, LinuxDisk
from tests.support.agents.spool.model import BY_SUMMARIES, LIMITS, encode_gap
from tests.support.agents.spool.open_spool import InspectedSpool

ALERT, AUDIT, ROUTINE = Priority
ROOMY = replace(LIMITS, spool_bytes_max=10 * LIMITS.segment_bytes)


def open_spool(disk: Disk, limits: SpoolLimits = LIMITS) -> InspectedSpool:
    return InspectedSpool.open(disk, limits, random=Random(5), encode_gap=encode_gap)


def filled(groups: int = 40) -> tuple[EmulDisk, set[int]]:
    """Return a disk after a power cut, and the unacknowledged numbers in its segments (three by default)."""
    disk = EmulDisk(1 << 30, Random(1))
    spool = open_spool(disk)
    numbers = {seq for _ in range(groups // 2) for seq in spool.append([ROUTINE] * 4, [b"x" * 400] * 4)}
    return disk.backend.cut_power(), numbers


def segment_names(disk: Disk) -> list[str]:
    return sorted(
        (name for name in disk.names() if int(name.split("-")[1], 16)), key=lambda n: int(n.split("-")[1], 16)
    )


def resize(disk: EmulDisk, name: str, size: int) -> None:
    content = disk.read(name, 0, min(size, disk.size(name)))
    disk.create(name, size)
    disk.write(name, 0, content)
    disk.flush(name)


def damage(disk: EmulDisk, how: str, name: str) -> None:
    if how == "removed":
        disk.remove(name)
    elif how == "unreadable":
        for offset in range(0, LIMITS.segment_bytes, 512):
            disk.backend.make_unreadable(name, offset)
    else:
        resize(disk, name, {"emptied": 0, "truncated": 5 * 1024 + 100, "extended": 40 * 1024}[how])


def reported_numbers(spool: Spool) -> set[int]:
    gaps = [gap for gap in spool.recovery.gaps if gap.reason is not GapReason.UNUSED]
    return {n for gap in gaps for first, last in gap.ranges for n in range(first, last + 1)}


@pytest.mark.parametrize("limits", [LIMITS, BY_SUMMARIES], ids=["small", "large"])
@pytest.mark.parametrize("index", [0, 1, -1])
@pytest.mark.parametrize("how", ["removed", "emptied", "truncated", "extended", "unreadable"])
def test_numbers_of_a_damaged_file_are_reported_and_not_reused(
    how: str, index: int, limits: SpoolLimits
) -> None:
    disk, used = filled()
    damage(disk, how, segment_names(disk)[index])
    spool = open_spool(disk, limits)
    while spool.verify_next():
        pass
    present = {seq for seq, _ in spool.read(ROUTINE, 10**6, 10**9)}
    spool.append([], [])
    reported = {n for first, last in spool.ledger.lost for n in range(first, last + 1)}
    assert used <= present | reported
    if how != "unreadable" or limits is LIMITS:
        assert used <= present | reported_numbers(spool)
    if how == "extended":
        assert used <= present
    elif index != -1 or how != "truncated":
        assert used - present, "something was lost in this file"
    assert spool.append([ROUTINE], [b"new"])[0] > max(used)
    again = open_spool(disk, limits)
    assert [n for n, payload in again.read(ROUTINE, 10**6, 10**9) if payload == b"new"]


@pytest.mark.parametrize("index", [0, 1])
def test_a_missing_segment_of_two_is_reported(index: int) -> None:
    disk, used = filled(16)
    names = segment_names(disk)
    assert len(names) == 2
    disk.remove(names[index])
    spool = open_spool(disk)
    present = {seq for seq, _ in spool.read(ROUTINE, 10**6, 10**9)}
    assert used - present and used <= present | reported_numbers(spool)
    assert spool.append([ROUTINE], [b"new"])[0] > max(used)


def test_reused_segments_are_not_reported_as_missing() -> None:
    disk = EmulDisk(1 << 30, Random(1))
    spool = open_spool(disk)
    spool.append([ALERT], [b"waits, so that the other cursors are kept"])
    for _ in range(60):
        numbers = spool.append([ROUTINE, AUDIT] * 2, [b"x" * 400] * 4)
        spool.ack(ROUTINE, numbers[-1])
        spool.ack(AUDIT, numbers[-1])
        assert reported_numbers(open_spool(disk)) == set()


def just_renamed(operation: int, *, acked: bool) -> tuple[EmulDisk, set[int]]:
    """Return a disk after a power cut in this disk operation at the start of a segment, and the waiting numbers."""
    disk = EmulDisk(1 << 30, Random(1))
    spool, numbers = open_spool(disk, ROOMY), set[int]()
    while spool.log.generation < 5 or spool.log.room >= 3 * 1024:
        group = spool.append([ROUTINE] * 4, [b"x" * 400] * 4)
        numbers.update(group)
        if acked and spool.log.generation == 4:
            spool.ack(ROUTINE, 40)
    spool.append([AUDIT], [b"x"])  # makes the acknowledgements durable
    disk.backend.cut_power_at(operation)
    try:
        while disk.backend.has_power:
            spool.append([ROUTINE] * 4, [b"x" * 700] * 4)
    except SpoolError:
        pass
    disk = disk.backend.reboot()
    newest = segment_names(disk)[-1]
    if not numbers_by_name(disk, newest) & numbers:
        disk.create(newest, LIMITS.segment_bytes)  # no byte of its first group is durable
    return disk, numbers - set(range(1, 41 if acked else 1))


@pytest.mark.parametrize("verify_bytes_max", [ROOMY.verify_bytes_max, 0])
@pytest.mark.parametrize("acked", [False, True])
@pytest.mark.parametrize("operation", range(1, 7))
def test_a_missing_oldest_file_is_reported_after_a_power_cut_at_any_operation(
    operation: int, acked: bool, verify_bytes_max: int
) -> None:
    limits = replace(ROOMY, verify_bytes_max=verify_bytes_max)
    disk, waiting = just_renamed(operation, acked=acked)
    assert not reported_numbers(open_spool(disk, limits)) & waiting, "nothing is missing yet"
    oldest = next(n for n in segment_names(disk) if numbers_by_name(disk, n) & waiting)
    disk.remove(oldest)
    spool = open_spool(disk, limits)
    present = {seq for seq, _ in spool.read(ROUTINE, 10**6, 10**9)}
    assert waiting - present and waiting <= present | reported_numbers(spool)


def numbers_by_name(disk: EmulDisk, name: str) -> set[int]:
    """Return the numbers of the segment with this file name, according to the names of all segments."""
    bases = [int(segment.split("-")[2], 16) for segment in segment_names(disk)]
    following = [base for base in bases if base > int(name.split("-")[2], 16)]
    return set(range(int(name.split("-")[2], 16), following[0] if following else 1 << 16))


def test_a_duplicated_segment_counts_once() -> None:
    disk, used = filled()
    name = segment_names(disk)[1]
    copy = name.split(".")[0] + "-0000000000000001.seg"
    disk.create(copy, LIMITS.segment_bytes)
    disk.write(copy, 0, disk.read(name, 0, LIMITS.segment_bytes))
    disk.flush(copy)
    spool = open_spool(disk)
    assert [seq for seq, _ in spool.read(ROUTINE, 10**6, 10**9)] == sorted(used)
    assert spool.status().records[ROUTINE] == len(used)


def test_a_foreign_segment_of_a_higher_generation_hides_nothing() -> None:
    disk, used = filled()
    disk.create("00000001-7fffffff-0000000000000001-00000000.seg", LIMITS.segment_bytes)
    spool = open_spool(disk)
    assert {seq for seq, _ in spool.read(ROUTINE, 10**6, 10**9)} == used


def change_format(disk: EmulDisk, how: str, segments: int) -> None:
    """Give the newest segments another format, in their contents or in their names."""
    for name in segment_names(disk)[-segments:]:
        if how == "content":
            content = disk.read(name, 0, LIMITS.segment_bytes)
            disk.write(name, 0, content.replace(b"RAPg", b"RAPh"))
            disk.flush(name)
        else:
            disk.rename(name, f"{name[:17]}-00.{name[18:34]}.seg")


@pytest.mark.parametrize("limits", [LIMITS, BY_SUMMARIES], ids=["small", "large"])
@pytest.mark.parametrize("segments", [1, 2, 4])
@pytest.mark.parametrize("how", ["content", "name"])
def test_files_of_a_newer_program_are_not_changed(how: str, segments: int, limits: SpoolLimits) -> None:
    disk, used = filled()
    epoch = open_spool(disk).epoch
    change_format(disk, how, segments)
    contents = {name: disk.read(name, 0, disk.size(name)) for name in disk.names()}
    for start in range(3):
        spool = open_spool(disk, limits)
        assert spool.epoch != epoch and spool.recovery.foreign_files == len(contents)
        assert not reported_numbers(spool), "nothing is lost"
        assert len(spool.read(ROUTINE, 10**6, 10**9)) == start
        assert spool.append([ROUTINE], [b"of the older program"])[0] > start
        disk = disk.backend.cut_power()
    assert {name: disk.read(name, 0, disk.size(name)) for name in contents} == contents
    for name in set(disk.names()) - contents.keys():
        disk.remove(name)
    for name in contents:  # restore the format, so that this program acts as the newer one
        disk.write(name, 0, contents[name].replace(b"RAPh", b"RAPg"))
    if how == "content":
        assert {seq for seq, _ in open_spool(disk).read(ROUTINE, 10**6, 10**9)} == used


def test_a_file_that_only_resembles_a_segment_hides_nothing() -> None:
    disk, used = filled()
    for name in (f"{segment_names(disk)[-1][:34]}.bak", "notes.txt", segment_names(disk)[0][:20] + ".seg"):
        disk.create(name, 512)
    spool = open_spool(disk)
    assert {seq for seq, _ in spool.read(ROUTINE, 10**6, 10**9)} == used


@pytest.mark.parametrize("factor", [2, 4])
def test_a_spool_with_another_segment_size_is_read_and_its_files_are_replaced(factor: int) -> None:
    disk, used = filled()
    size = LIMITS.segment_bytes * factor
    limits = SpoolLimits(size, 8 * size, 2048, 16, 4096, 64, 16, 16)
    spool = open_spool(disk, limits)
    assert {seq for seq, _ in spool.read(ROUTINE, 10**6, 10**9)} == used and not reported_numbers(spool)
    last = spool.append([ROUTINE], [b"new"])[0]
    assert last > max(used)
    spool.ack(ROUTINE, last)
    for _ in range(12 * factor):
        spool.ack(ROUTINE, spool.append([ROUTINE] * 4, [b"y" * 500] * 4)[-1])
    assert {disk.size(name) for name in disk.names()} == {size}
    assert spool.status().disk_bytes <= 8 * size


def test_a_spool_with_smaller_segments_than_before_also_drops_the_oldest_records() -> None:
    size = LIMITS.segment_bytes
    larger = SpoolLimits(4 * size, 16 * size, 2048, 16, 4096, 64, 16, 16)
    disk = EmulDisk(1 << 30, Random(1))
    spool = open_spool(disk, larger)
    for _ in range(100):
        spool.append([ROUTINE] * 4, [b"x" * 500] * 4)
    spool = open_spool(disk, LIMITS)
    for _ in range(200):
        spool.append([ROUTINE] * 4, [b"x" * 500] * 4)
    assert spool.status().disk_bytes <= LIMITS.spool_bytes_max
    assert spool.status().gaps_reported > 0


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_a_spool_can_have_more_segments_than_a_process_may_open_files(tmp_path: Path) -> None:
    for generation in range(1, 1101):
        with (tmp_path / f"0000abcd-{generation:08x}-{generation:016x}-00000000.seg").open("wb") as file:
            file.truncate(64 * 1024)
    disk = LinuxDisk(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    spool = open_spool(disk, SpoolLimits(64 * 1024, 1200 * 64 * 1024, 2048, 16, 4096, 64))
    assert spool.status().segments == 1100
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + DESCRIPTORS_MAX
    disk.close()


def test_waiting_records_can_be_read_from_a_disk_that_refuses_writes() -> None:
    disk, used = filled()
    for call in ("create", "commit", "write", "rename", "remove"):
        setattr(disk, call, refuse)
    spool = open_spool(disk)
    assert {seq for seq, _ in spool.read(ROUTINE, 10**6, 10**9)} == used
    with pytest.raises(SpoolError):
        spool.append([ROUTINE], [b"new"])
    spool.ack(ROUTINE, max(used))
    assert spool.read(ROUTINE, 10**6, 10**9) == []
    spool.close()


def refuse(name: str, *_rest: object) -> None:
    raise DiskError(DiskErrorKind.IO, f"{name}: read-only file system")
