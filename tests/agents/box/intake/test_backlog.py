"""Rate limits that follow from the backlog of an instrument: see `agents.box.intake.backlog`."""

from __future__ import annotations

import pickle
from random import Random

import pytest

from agents.box.buffer import Buffer
from agents.box.intake.backlog import (
    FAIR_BURST,
    FAIR_REPORTS_PER_SECOND,
    WAITING_BYTES_MAX,
    Backlog,
    WaitingBytes,
)
from agents.spool import Priority, Spool, SpoolLimits
from hal.emul.disk import EmulDisk
from sim.net.loop import SimLoop


def test_waiting_bytes_are_an_upper_bound_and_exact_for_short_backlogs() -> None:
    random, waiting, sizes, delivered = Random(1), WaitingBytes(), {}, 0
    sequence = 0
    for _ in range(3000):
        sequence += random.randint(1, 40)  # the numbers between belong to other instruments
        sizes[sequence] = random.randint(1, 500)
        waiting.add(sequence, sizes[sequence])
        if random.random() < 0.5:
            delivered = random.randint(delivered, sequence)
        exact = sum(size for number, size in sizes.items() if number > delivered)
        bound = waiting.bytes(delivered)
        assert bound >= exact
        assert bound - exact <= sum(size for number, size in sizes.items() if 0 <= delivered - number < 64)
    assert waiting.bytes(sequence) == 0


def test_a_long_backlog_takes_little_memory_and_ends_at_zero() -> None:
    waiting = WaitingBytes()
    for sequence in range(1, 1_000_001):
        waiting.add(sequence, 100)
    assert len(pickle.dumps(waiting)) < 16 * 1024
    assert waiting.bytes(0) == 100_000_000
    assert 0 <= waiting.bytes(999_000) - 100_000 <= 4096 * 100
    assert waiting.bytes(1_000_000) == 0


def backlog(delivered: dict[Priority, int], pinned_bytes_max: float = 1e9) -> Backlog:
    return Backlog(delivered, pinned_bytes_max)


def test_over_the_limit_a_fair_rate_applies_until_reports_are_delivered() -> None:
    delivered = dict.fromkeys(Priority, 0)
    instrument_backlog = backlog(delivered)
    instrument_backlog.add([Priority.ROUTINE] * 64, range(1, 65), [bytes(WAITING_BYTES_MAX // 64)] * 64)
    assert instrument_backlog.take(10_000, 0.0) == 0  # at the limit
    instrument_backlog.add([Priority.ROUTINE], [65], [b"1"])
    assert instrument_backlog.take(FAIR_BURST, 0.0) == 0
    wait = instrument_backlog.take(FAIR_BURST, 0.0)
    assert wait == pytest.approx(FAIR_BURST / FAIR_REPORTS_PER_SECOND)
    assert instrument_backlog.take(FAIR_BURST, wait) == 0
    delivered[Priority.ROUTINE] = 65
    assert instrument_backlog.take(10_000, wait) == 0


def test_priorities_are_counted_separately() -> None:
    delivered = dict.fromkeys(Priority, 0)
    instrument_backlog = backlog(delivered)
    instrument_backlog.add(
        [Priority.ROUTINE, Priority.ALERT, Priority.AUDIT], [1, 2, 3], [b"1", b"22", b"333"]
    )
    delivered[Priority.ROUTINE] = 1
    assert instrument_backlog.bytes(*Priority) == 5
    delivered[Priority.AUDIT] = 3
    assert (instrument_backlog.bytes(*Priority), instrument_backlog.bytes(Priority.ALERT)) == (2, 2)


def test_alerts_and_results_have_a_share_of_the_spool() -> None:
    delivered = dict.fromkeys(Priority, 0)
    instrument_backlog = backlog(delivered, 100)
    instrument_backlog.add(
        [Priority.ROUTINE, Priority.ALERT, Priority.AUDIT], [1, 2, 3], [bytes(1000), bytes(50), bytes(50)]
    )
    assert not instrument_backlog.exceeds_share
    instrument_backlog.add([Priority.ALERT], [4], [b"1"])
    assert instrument_backlog.exceeds_share
    delivered[Priority.ALERT] = 4
    assert not instrument_backlog.exceeds_share


def test_a_buffer_tracks_delivered_numbers() -> None:
    async def program() -> None:
        disk = EmulDisk(64 * 2**20, Random(1))
        limits = SpoolLimits(spool_bytes_max=16 * 2**20)
        spool = Spool.open(disk, limits, random=Random(1), encode_gap=lambda _: b"", snapshot=lambda: b"")
        buffer = Buffer(spool)
        await buffer.append_all([Priority.ROUTINE, Priority.ALERT], [b"1", b"2"])
        assert buffer.delivered == dict.fromkeys(Priority, 0)
        await buffer.ack(Priority.ALERT, 2)
        await buffer.ack(Priority.ALERT, 1)
        assert buffer.delivered[Priority.ALERT] == 2 and buffer.delivered[Priority.ROUTINE] == 0
        await buffer.close()

    SimLoop().run_until_complete(program())
