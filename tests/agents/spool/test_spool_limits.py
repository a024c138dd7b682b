"""Every limit of the spool, at the limit and above it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from random import Random

import pytest

from agents.spool import GapReason, Priority, Spool, SpoolError, SpoolErrorKind, SpoolGap, SpoolLimits
from hal.emul.disk import EmulDisk
from tests.support.agents.spool.model import LIMITS, Harness, decode_gap, encode_gap

ALERT, AUDIT, ROUTINE = Priority


@pytest.mark.parametrize(
    "change",
    [
        {"segment_bytes": 16 * 1024 + 1},
        {"spool_bytes_max": 3 * LIMITS.segment_bytes - 1},
        {"record_bytes_max": LIMITS.group_bytes_max + 1},
        {"group_bytes_max": 16 * 1024},
        {"snapshot_bytes_max": 8 * 1024},
    ],
)
def test_contradictory_limits_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(LIMITS, **change)


def test_default_limits_are_consistent() -> None:
    assert SpoolLimits().segments_max == 256
    assert replace(LIMITS, spool_bytes_max=3 * LIMITS.segment_bytes).segments_max == 3


def test_record_bytes_max_is_enforced() -> None:
    h = Harness()
    assert h.append([ROUTINE], [LIMITS.record_bytes_max])
    with pytest.raises(ValueError, match="record_bytes_max"):
        h.append([ROUTINE], [LIMITS.record_bytes_max + 1])
    h.check()


def test_group_records_max_is_enforced() -> None:
    h = Harness()
    assert h.append([ROUTINE] * LIMITS.group_records_max, [8] * LIMITS.group_records_max)
    with pytest.raises(ValueError, match="group_records_max"):
        h.append([ROUTINE] * 17, [8] * 17)


def test_group_bytes_max_is_enforced() -> None:
    h = Harness()
    assert h.append([ROUTINE] * 2, [LIMITS.group_bytes_max // 2] * 2)
    with pytest.raises(ValueError, match="group_bytes_max"):
        h.append([ROUTINE] * 3, [LIMITS.group_bytes_max // 3 + 1] * 3)


def test_empty_records_are_stored() -> None:
    h = Harness()
    h.spool.append([ROUTINE, ALERT], [b"", b""])
    assert h.read(ROUTINE) == [(1, b"")] and h.read(ALERT) == [(2, b"")]
    h.reboot()
    assert h.read(ROUTINE) == [(1, b"")] and h.read(ALERT) == [(2, b"")]


@pytest.mark.parametrize("size", [64, 65])
def test_snapshot_bytes_max_is_enforced(size: int) -> None:
    disk = EmulDisk(1 << 30, Random(1))
    spool = Spool.open(disk, LIMITS, random=Random(1), encode_gap=encode_gap, snapshot=lambda: b"s" * size)
    if size > LIMITS.snapshot_bytes_max:
        with pytest.raises(ValueError, match="snapshot_bytes_max"):
            spool.append([ROUTINE], [b"x"])
    else:
        spool.append([ROUTINE], [b"x"])
        again = Spool.open(disk, LIMITS, random=Random(1), encode_gap=encode_gap)
        assert again.recovery.snapshot == b"s" * size


def test_read_respects_its_limits() -> None:
    h = Harness()
    h.append([ROUTINE] * 4, [100] * 4)
    assert [seq for seq, _ in h.spool.read(ROUTINE, 3, 1 << 20)] == [1, 2, 3]
    assert [seq for seq, _ in h.spool.read(ROUTINE, 9, 200)] == [1, 2]
    assert [seq for seq, _ in h.spool.read(ROUTINE, 9, 199)] == [1]
    assert [seq for seq, _ in h.spool.read(ROUTINE, 9, 0, after_seq=2)] == [3], "at least one record"
    assert h.spool.read(ROUTINE, 9, 99, after_seq=4) == []


def test_ack_beyond_the_last_record_raises() -> None:
    h = Harness()
    h.append([ROUTINE], [10])
    with pytest.raises(ValueError, match="no record 2"):
        h.spool.ack(ROUTINE, 2)


def test_spool_bytes_max_drops_and_reports_the_oldest_routine_records() -> None:
    h = Harness()
    h.append([ROUTINE, ALERT, ROUTINE, AUDIT], [100] * 4)
    for _ in range(200):
        assert h.append([ROUTINE] * 4, [500] * 4)
        assert h.spool.status().disk_bytes <= LIMITS.spool_bytes_max
    gaps = [gap for _, payload in h.read(AUDIT) if (gap := decode_gap(payload)) is not None]
    assert all(gap.reason is GapReason.FULL for gap in gaps)
    dropped = [seq for gap in gaps for first, last in gap.ranges for seq in range(first, last + 1)]
    routine = [seq for seq, (priority, _) in h.promised.items() if priority is ROUTINE]
    assert dropped + [seq for seq, _ in h.read(ROUTINE)] == routine, (
        "the oldest routine records, and no others"
    )
    assert sum(gap.records for gap in gaps) == len(dropped)
    assert [seq for seq, _ in h.read(ALERT)] == [2] and h.read(AUDIT)[0][0] == 4
    assert h.spool.status().gaps_reported == len(gaps)
    h.reboot()
    assert dropped + [seq for seq, _ in h.read(ROUTINE)] == routine
    h.check()


@pytest.mark.parametrize("priority", [ALERT, AUDIT])
def test_a_spool_without_droppable_records_refuses_until_an_ack(priority: Priority) -> None:
    h = Harness()
    with pytest.raises(SpoolError) as caught:
        while True:
            h.spool.append([priority] * 4, [h.payload(500) for _ in range(4)])
    assert caught.value.kind is SpoolErrorKind.FULL
    waiting = h.read_all(priority)
    assert len(waiting) * 500 > LIMITS.spool_bytes_max // 3
    assert not h.append([priority], [500]) or h.read_all(priority)[: len(waiting)] == waiting
    h.ack(priority, waiting[-1][0])
    for _ in range(100):
        assert h.append([ROUTINE] * 4, [500] * 4)


def test_a_disk_smaller_than_the_limit_drops_the_oldest_records() -> None:
    h = Harness(capacity_bytes=3 * LIMITS.segment_bytes)
    for _ in range(100):
        assert h.append([ROUTINE] * 4, [500] * 4)
    assert h.spool.status().disk_bytes == 3 * LIMITS.segment_bytes
    assert h.spool.status().gaps_reported > 0
    h.disk.backend.set_capacity(1 << 30)
    for _ in range(100):
        assert h.append([ROUTINE] * 4, [500] * 4)
    assert h.spool.status().disk_bytes == LIMITS.spool_bytes_max
    h.check()


def test_a_disk_without_space_refuses_appends() -> None:
    h = Harness(capacity_bytes=LIMITS.segment_bytes)
    with pytest.raises(SpoolError) as caught:
        h.spool.append([ALERT], [b"x"])
    assert caught.value.kind is SpoolErrorKind.FULL
    h.disk.backend.set_capacity(1 << 30)
    assert h.append([ALERT], [10])


def test_gap_ranges_max_splits_reports() -> None:
    h = Harness()
    gaps: list[SpoolGap] = []
    for _ in range(60):
        assert h.append([ROUTINE, AUDIT] * 8, [150] * 16)
        records = h.read_all(AUDIT)
        gaps += [gap for _, payload in records if (gap := decode_gap(payload)) is not None]
        h.ack(AUDIT, records[-1][0])
    h.check()
    assert gaps and all(len(gap.ranges) <= LIMITS.gap_ranges_max for gap in gaps)


def test_the_steady_state_creates_no_files() -> None:
    h = Harness()
    for turn in range(300):
        h.append([ROUTINE] * 4, [500] * 4)
        h.ack(ROUTINE, h.spool.status().next_seq - 1)
        if turn == 20:
            names = len(h.disk.names())
    assert len(h.disk.names()) == names <= 3


def test_a_snapshot_and_the_records_after_it_cover_everything() -> None:
    """The test uses the snapshot as the collector does: the count of all records is restored."""
    disk = EmulDisk(1 << 30, Random(1))
    appended = 0

    def open_spool() -> Spool:
        return Spool.open(
            disk, LIMITS, random=Random(1), encode_gap=encode_gap, snapshot=lambda: appended.to_bytes(8)
        )

    spool = open_spool()
    for turn in range(200):
        spool.append([ROUTINE] * 3, [b"x" * 300] * 3)
        appended += 3
        spool.ack(ROUTINE, spool.status().next_seq - 1)
        if turn % 7 == 6:
            disk = disk.backend.cut_power()
            spool = open_spool()
            after = sum(record.priority is ROUTINE for record in spool.recovery.records())
            assert int.from_bytes(spool.recovery.snapshot) + after == appended
            spool.append([], [])


def test_a_routine_backlog_takes_no_memory() -> None:
    """207,360 routine records (two days of four instruments) in less than 1 MB, not counting the emulated disk."""
    limits = SpoolLimits()
    disk = EmulDisk(1 << 30, Random(1))
    spool = Spool.open(disk, limits, random=Random(1), encode_gap=encode_gap)
    payloads = [b"x" * 40] * 1024
    priorities = bytes([ROUTINE]) * 1024
    spool.append(priorities, payloads)
    for name in disk.names():
        disk.write(name, limits.segment_bytes - 1, b"\0")  # allocates the emulated file
    tracemalloc.start()
    for _ in range(203):
        spool.append(priorities, payloads)
    assert spool.read(ROUTINE, 500, 1 << 20)
    taken = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*/hal/emul/*")])
    tracemalloc.stop()
    assert spool.status().records[ROUTINE] > 207_360
    assert sum(trace.size for trace in taken.traces) < 1_000_000


def test_repeated_closing_takes_no_space() -> None:
    h = Harness()
    for turn in range(100):
        assert h.append([ROUTINE], [100]) or turn
        for _ in range(10):
            h.spool.close()
            h.open()
            assert h.spool.recovery.was_closed or h.spool.log.active is not None
    h.check()
    assert h.spool.status().gaps_reported == 0
