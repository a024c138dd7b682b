"""Guarantees of the spool that only a fault at one particular moment could violate."""

from __future__ import annotations

from random import Random

import pytest

from agents.spool import GapReason, Priority, SpoolError, SpoolErrorKind
from agents.spool.disk.group import body_bytes
from hal.disk import Disk, DiskError, DiskErrorKind
from hal.emul.disk import EmulDisk
from tests.support.agents.spool.model import LIMITS, Harness, decode_gap, encode_gap
from tests.support.agents.spool.open_spool import InspectedSpool, flip_first

ALERT, AUDIT, ROUTINE = Priority


class Killed(BaseException):
    """Simulates a killed process on a machine that keeps running."""


def open_spool(disk: Disk, random: Random) -> InspectedSpool:
    return InspectedSpool.open(disk, LIMITS, random=random, encode_gap=encode_gap)


@pytest.mark.parametrize("group", [1, 2], ids=["first of its segment", "a later one"])
@pytest.mark.parametrize("seed", range(20))
def test_a_record_that_is_certain_after_a_crash_survives_a_power_cut(seed: int, group: int) -> None:
    """A process killed between write and flush leaves a group that is readable but not on the medium."""
    random = Random(seed)
    disk = EmulDisk(1 << 30, random)
    spool = open_spool(disk, random)
    for _ in range(group - 1):
        spool.append([ROUTINE], [b"durable"])

    def commit(name: str, offset: int, data: bytes) -> None:
        disk.write(name, offset, data)
        raise Killed

    disk.commit = commit  # type: ignore[method-assign]
    with pytest.raises(Killed):
        spool.append([ROUTINE] * 3, [b"a" * 700, b"b" * 700, b"c" * 700])
    del disk.commit
    certain = {record.payload for record in open_spool(disk, random).recovery.records() if record.certain}
    assert len(certain) == 3 + group - 1
    again = open_spool(disk.backend.cut_power(), random)
    assert certain <= {payload for _, payload in again.read(ROUTINE, 99, 1 << 20)}


def test_no_cursor_passes_a_loss_whose_report_is_torn() -> None:
    """A new segment's checkpoint, with the cursors, reaches the disk, and the gap record after it does not."""
    random = Random(1)
    disk = EmulDisk(1 << 30, random)
    spool = open_spool(disk, random)
    for _ in range(3):
        spool.append([ROUTINE], [b"x" * 100])
    name = spool.log.segments[-1].name
    flip_first(disk, name, b"x" * 100)
    assert [seq for seq, _ in spool.read(ROUTINE, 9, 999)] == [2, 3], (
        "the loss of record 1 is known only in memory"
    )
    spool.ack(ROUTINE, 3)
    spool.begin_segment()

    def commit(name: str, offset: int, data: bytes) -> None:
        disk.write(name, offset, data[: body_bytes(data)[1]])
        disk.flush(name)
        raise DiskError(DiskErrorKind.UNAVAILABLE, "the power fails after the checkpoint")

    disk.commit = commit  # type: ignore[method-assign]
    with pytest.raises(SpoolError):
        spool.append([], [])
    again = open_spool(disk.backend.cut_power(), random)
    again.append([], [])
    gaps = [gap for _, payload in again.read(AUDIT, 9, 9999) if (gap := decode_gap(payload))]
    assert [gap.ranges for gap in gaps if gap.reason is GapReason.CORRUPT] == [((1, 1),)]


@pytest.mark.parametrize("discarded", [0, 2])
def test_alerts_are_carried_only_if_a_quarter_of_the_spool_can_be_freed(discarded: int) -> None:
    """Moving all alerts at each append to free little space would wear out the disk; such appends are refused."""
    h = Harness()
    while h.append([ALERT] * 4, [464] * 4):
        pass
    for seq, _ in h.read_all(ALERT)[::discarded] if discarded else ():
        h.discard(ALERT, seq)
    before = h.disk.backend.device_bytes_written
    if discarded:
        assert h.append([ALERT] * 4, [464] * 4)
    else:
        with pytest.raises(SpoolError) as caught:
            h.spool.append([ALERT] * 4, [b"x" * 464] * 4)
        assert caught.value.kind is SpoolErrorKind.FULL
        assert h.disk.backend.device_bytes_written == before, "nothing was moved"
    h.check()
