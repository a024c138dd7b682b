"""Damage found when the oldest segment is reclaimed is reported; files of other formats are recognized."""

from __future__ import annotations

from random import Random

import pytest

from agents.spool import GapReason, Priority, Spool
from agents.spool.disk.group import MAGIC, PREFIX
from agents.spool.disk.segment import parse_name, segment_name
from agents.spool.foreign import foreign_epochs
from hal.emul.disk import EmulDisk
from tests.support.agents.spool.model import LIMITS, decode_gap, encode_gap

ALERT, AUDIT, ROUTINE = Priority


def new_spool() -> tuple[EmulDisk, Spool]:
    disk = EmulDisk(1 << 30, Random(2))
    return disk, Spool.open(disk, LIMITS, random=Random(1), encode_gap=encode_gap)


def oldest(disk: EmulDisk) -> str:
    """Return the file of the oldest segment in use."""
    return min((name for name in disk.names() if (parse_name(name) or (0, 0))[1]), key=lambda n: n[9:17])


def find(disk: EmulDisk, name: str, content: bytes) -> int:
    offset = disk.read(name, 0, LIMITS.segment_bytes).find(content)
    assert offset >= 0
    return offset


def reclaim(disk: EmulDisk, spool: Spool, name: str) -> None:
    """Append routine records until the segment's file has been reused."""
    while name in disk.names():
        spool.append([ROUTINE] * 4, [bytes(500)] * 4)


def reported(spool: Spool) -> dict[GapReason, set[int]]:
    """Return the numbers in the waiting gap records, by reason."""
    numbers: dict[GapReason, set[int]] = {}
    for _, payload in spool.read(AUDIT, 1000, 1 << 20):
        if gap := decode_gap(payload):
            for first, last in gap.ranges:
                numbers.setdefault(gap.reason, set()).update(range(first, last + 1))
    return numbers


@pytest.mark.parametrize("priority", [ALERT, AUDIT])
def test_a_kept_record_that_is_unreadable_when_its_segment_is_reclaimed_is_reported(
    priority: Priority,
) -> None:
    disk, spool = new_spool()
    payloads = [b"a" * 600, b"b" * 600, b"c" * 1200, b"d" * 600]
    spool.append([ROUTINE, priority, priority, ROUTINE], payloads)
    name = oldest(disk)
    disk.backend.make_unreadable(name, find(disk, name, b"c" * 600) + 512)
    reclaim(disk, spool, name)
    gaps = reported(spool)
    assert gaps[GapReason.CORRUPT] == {3}
    assert {1, 4} <= gaps[GapReason.FULL]
    records = spool.read(priority, 1000, 1 << 20)
    assert [record for record in records if not decode_gap(record[1])] == [(2, payloads[1])]


def test_readable_alerts_of_a_reclaimed_segment_keep_their_numbers_and_payloads() -> None:
    disk, spool = new_spool()
    spool.append([ALERT, ROUTINE, AUDIT], [b"alert", b"r", b"audit"])
    name = oldest(disk)
    reclaim(disk, spool, name)
    assert spool.read(ALERT, 9, 999) == [(1, b"alert")]
    assert (3, b"audit") in spool.read(AUDIT, 9, 9999)
    assert reported(spool)[GapReason.FULL] >= {2}
    assert GapReason.CORRUPT not in reported(spool)


def test_acknowledged_records_that_are_unreadable_when_their_segment_is_reclaimed_are_not_reported() -> None:
    disk, spool = new_spool()
    spool.append([ROUTINE] * 3, [b"some"] * 3)
    spool.append([ROUTINE] * 3, [b"more"] * 3)
    name = oldest(disk)
    assert len(spool.read(ROUTINE, 4, 999)) == 4
    spool.ack(ROUTINE, 4)
    for offset in [find(disk, name, content) for content in (b"some", b"more")]:
        disk.backend.make_unreadable(name, offset)
    reclaim(disk, spool, name)
    gaps = reported(spool)
    assert gaps[GapReason.CORRUPT] == {5, 6}
    assert min(gaps[GapReason.FULL]) == 7


def test_after_a_reclaim_each_number_is_delivered_or_reported() -> None:
    disk, spool = new_spool()
    for _ in range(4):
        name = oldest(disk) if disk.names() else ""
        for _ in range(40):
            spool.append([ROUTINE, ALERT, ROUTINE], [bytes(400), bytes(20), bytes(400)])
        assert name not in disk.names()
    known = set().union(*reported(spool).values())
    for priority in Priority:
        known |= {seq for seq, _ in spool.read(priority, 10_000, 1 << 30)}
    assert known == set(range(1, spool.status().next_seq))


# -- formats of other versions of this program

NAME = segment_name(7, 3, 1)


@pytest.mark.parametrize(
    ("content", "is_foreign"),
    [
        (PREFIX.pack(b"RAPh", 7, 3), True),
        (PREFIX.pack(b"RAPh", 7, 3) + bytes(500), True),
        (PREFIX.pack(b"RAPh", 7, 3)[:-1], False),
        (PREFIX.pack(MAGIC, 7, 3), False),
        (PREFIX.pack(b"RAPh", 7, 2), False),
        (PREFIX.pack(b"RAPh", 8, 3), False),
        (PREFIX.pack(b"XAPh", 7, 3), False),
        (bytes(512), False),
    ],
)
def test_a_segment_whose_magic_has_another_version_has_another_format(
    content: bytes, is_foreign: bool
) -> None:
    disk = EmulDisk(1 << 20, Random(1))
    disk.create(NAME, len(content))
    disk.commit(NAME, 0, content)
    assert foreign_epochs(disk, [NAME, "other.txt"]) == ({7} if is_foreign else set())


def test_a_segment_has_another_format_if_its_name_has_further_fields() -> None:
    disk = EmulDisk(1 << 20, Random(1))
    names = [segment_name(7, n, 1) for n in (1, 2, 3)]
    later = f"{7:08x}-{3:08x}-1.2-3.seg"
    for name in (*names, later):
        disk.create(name, 512)
    assert foreign_epochs(disk, names) == set()
    assert foreign_epochs(disk, [*names[:2], later]) == {7}
    newer = [segment_name(7, n, 1) for n in (4, 5)]
    for name in newer:
        disk.create(name, 512)
    assert foreign_epochs(disk, [*names[:2], later, newer[0]]) == {7}, (
        "one of the newest two has the other format"
    )
    assert foreign_epochs(disk, [*names[:2], later, *newer]) == set()
