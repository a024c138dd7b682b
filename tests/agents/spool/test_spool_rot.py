"""Damaged records are reported by number, and no other record is lost."""

from __future__ import annotations

import contextlib
from random import Random

import pytest

from agents.spool import GapReason, Priority, SpoolError, SpoolGap
from agents.spool.disk.group import Group, GroupKind
from agents.spool.disk.segment import groups
from hal.disk import Disk
from hal.emul.disk import EmulDisk
from tests.support.agents.spool.model import LIMITS, Harness, decode_gap, encode_gap
from tests.support.agents.spool.open_spool import InspectedSpool, flip_bits

ALERT, AUDIT, ROUTINE = Priority


def open_spool(disk: Disk) -> InspectedSpool:
    return InspectedSpool.open(disk, LIMITS, random=Random(1), encode_gap=encode_gap)


def filled(count: int = 3, size: int = 200) -> tuple[EmulDisk, InspectedSpool]:
    disk = EmulDisk(1 << 30, Random(2))
    spool = open_spool(disk)
    for number in range(count):
        spool.append([ROUTINE] * 8, [b"%d/%d " % (number, index) * (size // 8) for index in range(8)])
    return disk, spool


def flip(disk: EmulDisk, spool: InspectedSpool, offset: int) -> None:
    """Flip one bit of the byte at this offset of the newest segment."""
    flip_bits(disk, spool.log.segments[-1].name, offset)


def lost_numbers(gaps: tuple[SpoolGap, ...], reason: GapReason = GapReason.CORRUPT) -> set[int]:
    ranges = [r for gap in gaps if gap.reason is reason for r in gap.ranges]
    return {seq for first, last in ranges for seq in range(first, last + 1)}


def data_groups(spool: InspectedSpool, disk: Disk) -> list[Group]:
    segment = spool.log.segments[-1]
    return [g for g in groups(disk, segment, 0, segment.end) if g.kind is GroupKind.DATA]


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("closed", [True, False])
def test_a_damaged_payload_loses_only_its_record(index: int, closed: bool) -> None:
    disk, spool = filled()
    second = data_groups(spool, disk)[1]
    flip(disk, spool, second.payload_offset + sum(second.lengths[:index]) + 3)
    if closed:
        spool.close()
    opened_again = open_spool(disk)
    assert lost_numbers(opened_again.recovery.gaps) == {9 + index}
    assert [seq for seq, _ in opened_again.read(ROUTINE, 99, 1 << 20)] == [
        n for n in range(1, 25) if n != 9 + index
    ]
    assert opened_again.recovery.waiting_records == 23


@pytest.mark.parametrize("copy", ["first", "last"])
@pytest.mark.parametrize("of", ["header", "table"])
def test_one_damaged_copy_of_a_table_loses_nothing(copy: str, of: str) -> None:
    disk, spool = filled()
    second = data_groups(spool, disk)[1]
    distance = 20 if of == "header" else 90
    flip(disk, spool, second.offset + distance if copy == "first" else second.end - distance)
    opened_again = open_spool(disk)
    assert lost_numbers(opened_again.recovery.gaps) == set()
    assert len(opened_again.read(ROUTINE, 99, 1 << 20)) == 24


def test_two_damaged_copies_of_a_table_lose_only_their_group() -> None:
    disk, spool = filled()
    second = data_groups(spool, disk)[1]
    flip(disk, spool, second.offset + 20)
    flip(disk, spool, second.end - 20)
    assert lost_numbers(open_spool(disk).recovery.gaps) == set(range(9, 17))


@pytest.mark.parametrize("closed", [True, False])
def test_losses_in_the_last_group_are_reported_as_unfinished(closed: bool) -> None:
    disk, spool = filled()
    last = data_groups(spool, disk)[-1]
    if closed:
        spool.close()
    flip(disk, spool, last.payload_offset + sum(last.lengths[:3]))
    opened_again = open_spool(disk)
    reason = GapReason.CORRUPT if closed else GapReason.UNFINISHED
    assert lost_numbers(opened_again.recovery.gaps, reason) == {20}
    certain = {record.seq: record.certain for record in opened_again.recovery.records()}
    assert 20 not in certain and certain[19] and certain[21] is closed


def test_numbers_continue_beyond_an_unreadable_tail() -> None:
    disk, spool = filled()
    for group in data_groups(spool, disk)[1:]:
        flip(disk, spool, group.offset + 20)
        flip(disk, spool, group.end - 20)
    opened_again = open_spool(disk)
    assert lost_numbers(opened_again.recovery.gaps, GapReason.UNUSED) >= set(range(9, 25))
    assert opened_again.append([ROUTINE], [b"new"])[0] > 24


def test_a_damaged_group_before_a_clean_close_is_reported() -> None:
    disk, spool = filled()
    last = data_groups(spool, disk)[-1]
    spool.close()
    flip(disk, spool, last.offset + 20)
    flip(disk, spool, last.end - 20)
    opened_again = open_spool(disk)
    assert opened_again.recovery.was_closed and lost_numbers(opened_again.recovery.gaps) == set(range(17, 25))
    assert opened_again.append([ROUTINE], [b"new"])[0] == 26, "after the gap record"


def test_an_unreadable_segment_is_reported() -> None:
    disk, spool = filled(count=40, size=400)
    segments = spool.log.segments
    lost = segments[1]
    disk.write(lost.name, 0, bytes(LIMITS.segment_bytes))
    disk.flush(lost.name)
    opened_again = open_spool(disk)
    assert lost_numbers(opened_again.recovery.gaps) == set(range(max(lost.base, 1), segments[2].base))


def test_a_gap_is_reported_once() -> None:
    disk, spool = filled()
    second = data_groups(spool, disk)[1]
    flip(disk, spool, second.payload_offset)
    for _ in range(3):
        spool = open_spool(disk)
        spool.append([], [])
        spool.read(ROUTINE, 99, 1 << 20)
        spool.close()
    reports = [decode_gap(payload) for _, payload in spool.read(AUDIT, 99, 1 << 20)]
    assert [gap.ranges for gap in reports if gap is not None and gap.reason is GapReason.CORRUPT] == [
        ((9, 9),)
    ]


def test_damage_found_while_reading_is_reported() -> None:
    disk, spool = filled()
    spool.append([ALERT, AUDIT], [b"alert" * 9, b"audit" * 9])
    written = data_groups(spool, disk)
    flip(disk, spool, written[0].payload_offset)
    flip(disk, spool, written[-1].payload_offset)
    assert [seq for seq, _ in spool.read(ROUTINE, 99, 1 << 20)] == list(range(2, 25))
    assert spool.read(ALERT, 9, 1 << 20) == []
    assert spool.status().records == {ALERT: 0, AUDIT: 1, ROUTINE: 23}
    spool.append([], [])
    gaps = [decode_gap(payload) for _, payload in spool.read(AUDIT, 9, 1 << 20)[1:]]
    assert gaps == [SpoolGap(((1, 1), (25, 25)), 2, GapReason.CORRUPT)]


def test_an_unreadable_sector_is_reported_as_lost_numbers() -> None:
    disk, spool = filled()
    second = data_groups(spool, disk)[1]
    disk.backend.make_unreadable(spool.log.segments[-1].name, second.payload_offset + 600)
    lost = lost_numbers(open_spool(disk).recovery.gaps)
    assert 0 < len(lost) <= 6 and lost < set(range(9, 17))


def test_foreign_files_are_not_changed() -> None:
    disk = EmulDisk(1 << 30, Random(2))
    disk.create("readme.txt", 100)
    spool = open_spool(disk)
    spool.append([ROUTINE], [b"x"])
    assert "readme.txt" in disk.names()
    assert open_spool(disk).read(ROUTINE, 9, 99) == [(1, b"x")]


def carried_and_manifest() -> tuple[EmulDisk, Group, Group, str]:
    """Return a disk on which alert 1 and audit record 3 were carried and their old file reused; the group of carried
    records, its manifest, and the name of their file.
    """
    disk = EmulDisk(1 << 30, Random(2))
    spool = open_spool(disk)
    spool.append([ALERT, ROUTINE, AUDIT], [b"a" * 100, b"r" * 100, b"b" * 100])
    carried = None
    while carried is None:
        spool.append([ROUTINE] * 8, [b"x" * 500] * 8)
        segment = spool.log.segments[-1]
        written = [
            g
            for g in groups(disk, segment, 0, segment.end)
            if g.kind in (GroupKind.CARRIED, GroupKind.MANIFEST)
        ]
        carried, manifest = written or (None, None)
    while spool.log.segments[0].base == 1:  # until their old file is reused
        spool.append([ROUTINE] * 8, [b"x" * 500] * 8)
    assert [seq for seq, _ in spool.read(ALERT, 9, 999)] == [1]
    assert manifest is not None
    return disk, carried, manifest, segment.name


def test_an_unreadable_carried_group_is_detected_by_its_manifest() -> None:
    disk, carried, _, name = carried_and_manifest()
    flip_bits(disk, name, carried.offset + 20)
    flip_bits(disk, name, carried.end - 20)
    assert lost_numbers(open_spool(disk).recovery.gaps) == {1, 3}


def test_an_unreadable_carried_record_is_detected_without_its_manifest() -> None:
    disk, carried, manifest, name = carried_and_manifest()
    flip_bits(disk, name, carried.payload_offset)
    flip_bits(disk, name, manifest.offset + 20)
    flip_bits(disk, name, manifest.end - 20)
    assert lost_numbers(open_spool(disk).recovery.gaps) == {1}


def test_a_reported_gap_outlives_its_report_in_checkpoints() -> None:
    disk, spool = filled()
    flip(disk, spool, data_groups(spool, disk)[1].payload_offset)
    spool.append([ALERT], [b"waits, so that the gap is kept"])
    spool = open_spool(disk)
    spool.append([], [])
    first = spool.log.segments[0]
    for _ in range(8):  # into further segments, whose checkpoints contain the gap
        spool.append([AUDIT], [b"y" * 2000])
    for group in groups(disk, first, 0, first.end):
        if group.aux and group.kind is GroupKind.DATA:
            flip_bits(disk, first.name, group.payload_offset)  # the gap record itself is damaged
    assert 9 not in lost_numbers(open_spool(disk).recovery.gaps)


def full() -> tuple[EmulDisk, InspectedSpool]:
    """Return a spool of routine records in which the next group drops the oldest segment."""
    disk = EmulDisk(1 << 30, Random(2))
    spool = open_spool(disk)
    while spool.log.room > 1000 or spool.status().disk_bytes < LIMITS.spool_bytes_max:
        spool.append([ROUTINE], [b"x" * 600])
    spool.begin_segment()
    return disk, spool


def reported_losses(spool: InspectedSpool) -> dict[int, GapReason]:
    """Return the lost numbers and reasons according to the gap records, and check that each is reported once."""
    gaps = [gap for _, payload in spool.read(AUDIT, 99, 1 << 20) if (gap := decode_gap(payload))]
    pairs = [(n, gap.reason) for gap in gaps for a, b in gap.ranges for n in range(a, b + 1)]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


@pytest.mark.parametrize("flushes", [0, 1, 2])
@pytest.mark.parametrize("rotten", [[1], [2, 4], [2, 20], [20]], ids=str)
def test_a_loss_found_by_reading_is_reported_after_its_segment_is_reused(
    flushes: int, rotten: list[int]
) -> None:
    """The spool is full; after `flushes` successful flushes, each flush fails until the power is cut."""
    disk, spool = full()
    for number in rotten:
        segment = spool.log.segment_of(number)
        assert segment is not None
        written = [g for g in groups(disk, segment, 0, segment.end) if g.kind is GroupKind.DATA]
        offset = next(g.payload_offset for g in written if g.first_seq == number)
        flip_bits(disk, segment.name, offset)
    appended = set(range(1, spool.status().next_seq))
    spool.read(ROUTINE, 99, 1 << 20)
    spool.ack(ROUTINE, 3)
    real, left = disk.flush, [flushes]

    def flush(name: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            disk.backend.fail_next_flush()
        real(name)

    disk.flush = flush  # type: ignore[method-assign]
    with contextlib.suppress(SpoolError):
        spool.append([ROUTINE], [b"new"])
    spool = open_spool(disk.backend.cut_power())
    spool.append([], [])
    delivered = {1, 2, 3}.difference(rotten)
    read = {seq for seq, _ in spool.read(ROUTINE, 99, 1 << 20)}
    assert appended <= read | reported_losses(spool).keys() | delivered
    assert all(reported_losses(spool).get(number) is GapReason.CORRUPT for number in rotten)


def test_an_unreadable_group_is_reported_when_its_segment_is_dropped() -> None:
    disk, spool = full()
    first = spool.log.segments[0]
    second = [g for g in groups(disk, first, 0, first.end) if g.kind is GroupKind.DATA][1]
    for offset in (second.offset + 20, second.end - 20):
        flip_bits(disk, first.name, offset)
    spool.append([ROUTINE], [b"new"])
    last = spool.log.upper_bound(first) - 1
    assert reported_losses(spool) == {
        n: GapReason.CORRUPT if n == second.first_seq else GapReason.FULL for n in range(1, last + 1)
    }


def test_a_drop_with_an_unreadable_gap_record_is_not_valid() -> None:
    """The group that drops a segment is torn: its header with the moved cursor is readable, its records are not."""
    disk, spool = full()
    real = disk.commit
    left = [1]

    def commit(name: str, offset: int, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt  # killed between the drop and the new record
        real(name, offset, data)

    disk.commit = commit  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        spool.append([ROUTINE], [b"new"])
    del disk.commit
    report = data_groups(spool, disk)[-1]
    assert report.cursors[ROUTINE] > 0 and report.count == 1
    flip(disk, spool, report.payload_offset)
    opened_again = open_spool(disk)
    assert opened_again.read(ROUTINE, 1, 1 << 20)[0][0] == 1


@pytest.mark.parametrize("end", ["crash", "close"])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_no_number_is_assigned_twice_if_everything_since_opening_is_damaged(end: str, times: int) -> None:
    """The next opening reads the same data as the last one, and must continue above the numbers assigned since."""
    h = Harness()
    assert h.append([ROUTINE] * 8, [100] * 8)
    for _ in range(times):
        if end == "close":
            h.spool.close()
        h.reboot()
        assert h.append([ROUTINE, ALERT], [100] * 2), "`append` checks that the numbers are new"
        h.rot_all_since(*h.found)
        h.reboot()
    assert h.append([ROUTINE], [100])
    h.check()


@pytest.mark.parametrize("reopening", ["immediately", "after a crash", "after a clean close"])
@pytest.mark.parametrize("priority", Priority)
def test_a_discarded_record_stays_discarded_and_is_reported_by_number(
    priority: Priority, reopening: str
) -> None:
    h = Harness()
    assert h.append([ROUTINE, ALERT, AUDIT] * 3, [100] * 9)
    number = h.read(priority)[1][0]
    waiting = h.spool.status().records
    h.discard(priority, number)
    assert h.spool.status().records == {**waiting, priority: 2}
    h.spool.append([], [])
    if reopening == "after a crash":
        h.reboot()
    elif reopening == "after a clean close":
        h.spool.close()
        h.open()
    assert number not in dict(h.read_all(priority))
    assert len(h.read_all(ROUTINE)) + len(h.read_all(ALERT)) == (5 if priority is not AUDIT else 6)
    gaps = [gap for _, payload in h.read(AUDIT) if (gap := decode_gap(payload)) is not None]
    assert [gap for gap in gaps if gap.reason is not GapReason.UNUSED] == [
        SpoolGap(((number, number),), 1, GapReason.REFUSED)
    ]
    h.check()


def test_records_that_do_not_wait_cannot_be_discarded() -> None:
    h = Harness()
    assert h.append([ROUTINE, ALERT, ROUTINE], [100] * 3)
    h.ack(ROUTINE, 1)
    for priority, number in [(ROUTINE, 1), (ROUTINE, 2), (ROUTINE, 4), (ALERT, 1), (ALERT, 3), (AUDIT, 2)]:
        h.spool.discard(priority, number)
    assert h.spool.status().gaps_pending == 0
    assert [seq for seq, _ in h.read(ROUTINE)] == [3] and [seq for seq, _ in h.read(ALERT)] == [2]


def test_a_discarded_carried_record_stays_discarded() -> None:
    disk, *_ = carried_and_manifest()
    spool = open_spool(disk)
    spool.discard(ALERT, 1)
    spool.append([], [])
    assert reported_losses(spool)[1] is GapReason.REFUSED
    assert open_spool(disk).read(ALERT, 9, 999) == []
