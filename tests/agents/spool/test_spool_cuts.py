"""One scenario of the spool, with a power cut at each of its disk operations in turn."""

from __future__ import annotations

import pytest

from agents.spool import Priority, SpoolError, SpoolLimits
from tests.support.agents.spool.model import BY_SUMMARIES, LIMITS, Harness

ALERT, AUDIT, ROUTINE = Priority
MIXED = [ROUTINE, ROUTINE, AUDIT, ROUTINE, ALERT, ROUTINE]


def scenario(h: Harness) -> None:
    """Fill, overflow, deliver, reuse, close, open and continue: about 400 operations."""
    for turn in range(60):
        if not h.append(MIXED, [300] * 6):
            return
        if turn % 10 == 9:
            for priority in (ALERT, AUDIT):
                records = h.read(priority, 9)
                h.ack(priority, records[-1][0])
    h.spool.close()
    if not h.disk.backend.has_power:
        return
    h.open()
    for _ in range(60):
        if not h.append([ROUTINE] * 4, [900] * 4):
            return
        records = h.read(ROUTINE, 7)
        h.ack(ROUTINE, records[-1][0])


def operations() -> int:
    h = Harness()
    h.disk.backend.cut_power_at(1 << 30)
    scenario(h)
    return (1 << 30) - h.disk.backend.operations_until_cut


TOTAL = operations()


def test_the_scenario_drops_records_and_has_more_than_250_operations() -> None:
    h = Harness()
    scenario(h)
    h.check()
    assert h.spool.status().gaps_reported > 0
    assert TOTAL > 250


@pytest.mark.parametrize("limits", [LIMITS, BY_SUMMARIES], ids=["small", "large"])
@pytest.mark.parametrize("part", range(4))
def test_a_power_cut_at_every_operation_loses_nothing(part: int, limits: SpoolLimits) -> None:
    for operation in range(1 + part, TOTAL + 1, 4):
        h = Harness(operation, limits=limits)
        h.disk.backend.cut_power_at(operation)
        try:
            scenario(h)
        except SpoolError:
            assert not h.disk.backend.has_power
        h.reboot()
        h.check()
        assert h.append(MIXED, [20] * 6)
        h.reboot()
        h.check()


@pytest.mark.parametrize("first", [1, 5, 20, 60, 120, 200])
def test_a_second_power_cut_during_recovery_loses_nothing(first: int) -> None:
    for second in range(1, 12):
        h = Harness(first)
        h.disk.backend.cut_power_at(first)
        try:
            scenario(h)
        except SpoolError:
            assert not h.disk.backend.has_power
        h.disk = h.disk.backend.reboot()
        h.disk.backend.cut_power_at(second)
        h.open()
        for _ in range(second):
            if h.disk.backend.has_power:
                h.append(MIXED, [200] * 6)
        h.reboot()
        h.check()


@pytest.mark.parametrize("kind", ["flush", "write"])
def test_a_single_failure_at_every_group_loses_nothing(kind: str) -> None:
    for turn in range(60):
        h = Harness(turn)
        for group in range(60):
            if group == turn:
                getattr(h.disk.backend, f"fail_next_{kind}")()
            assert h.append(MIXED, [250] * 6), "a single failure is tolerated"
        h.reboot()
        h.check()


@pytest.mark.parametrize("between", ["append", "ack", "roll", "failure", "reopening"])
def test_a_group_prepared_for_another_position_is_encoded_again(between: str) -> None:
    h = Harness()
    assert h.append([ROUTINE] * 2, [100] * 2)
    group = h.spool.prepare_group(h.spool.measure([ROUTINE, ALERT], [b"a", b"b"]))
    if between == "append":
        h.append([ROUTINE], [10])
    elif between == "ack":
        h.ack(ROUTINE, 1)
    elif between == "roll":
        h.spool.begin_segment()
    elif between == "failure":
        h.disk.backend.fail_next_flush()
    else:
        h.reboot()
    numbers = h.spool.append_prepared(group)
    h.reboot()
    assert h.spool.read(ALERT, 9, 99) == [(numbers[1], b"b")]
    assert (numbers[0], b"a") in h.read_all(ROUTINE)
    assert min(seq for seq, _ in h.read_all(ROUTINE)) > h.acked[ROUTINE]
    h.check()
