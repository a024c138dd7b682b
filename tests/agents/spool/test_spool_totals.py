"""The cost of acknowledgements, status queries and appends is independent of the number of segments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from agents.spool import Priority
from tests.support.agents.spool.model import LIMITS, Harness

ALERT, AUDIT, ROUTINE = Priority
ROOMY = replace(LIMITS, spool_bytes_max=1000 * LIMITS.segment_bytes)
SLACK = 1.5  # bisection takes a few more steps, and a group may be the first of its segment


class Steps:
    """Counts executed lines of the spool."""

    def __init__(self) -> None:
        self.count = 0

    def trace(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        if "/agents/spool/" not in frame.f_code.co_filename:
            return None
        self.count += event in ("line", "call")
        return self.trace


@contextmanager
def counted() -> Iterator[Steps]:
    steps, before = Steps(), sys.gettrace()
    sys.settrace(steps.trace)
    try:
        yield steps
    finally:
        sys.settrace(before)


def fill(segments: int, priorities: list[Priority]) -> Harness:
    h = Harness(limits=ROOMY)
    while len(h.spool.log.segments) < segments:
        assert h.append(priorities, [500] * len(priorities))
    return h


def steps_of_routine_work(segments: int, *, drained: bool) -> int:
    """Count the steps of one append, read, acknowledgement and status with this number of segments, live or
    drained.
    """
    h = fill(segments, [ROUTINE] * 4)
    if drained:
        h.ack(ROUTINE, h.spool.status().next_seq - 1)
        assert h.spool.status().records[ROUTINE] == 0, "one acknowledgement covers all segments"
    h.append([ROUTINE] * 2, [8, 8])
    first = h.spool.read(ROUTINE, 1, 1 << 20)[0][0]
    assert not h.spool.verify_next(), "all segments have been verified"
    with counted() as steps:
        h.spool.append([ROUTINE], [b"x"])
        h.spool.ack(ROUTINE, first)
        h.spool.read(ROUTINE, 1, 1 << 20, first)
        h.spool.status()
        h.spool.verify_next()
    h.check_totals()
    return steps.count


@pytest.mark.parametrize("drained", [False, True])
def test_the_cost_of_routine_work_does_not_grow_with_the_segments(drained: bool) -> None:
    few, many = (steps_of_routine_work(n, drained=drained) for n in (4, 400))
    assert 0 < many <= SLACK * few


def steps_of_an_alert(segments: int) -> int:
    h = fill(segments, [ALERT, AUDIT] * 2)
    first = h.spool.read(ALERT, 1, 1 << 20)[0][0]
    with counted() as steps:
        h.spool.append([ALERT], [b"x"])
        h.spool.ack(ALERT, first)
        h.spool.read(ALERT, 1, 1 << 20, first)
        h.spool.status()
    h.check_totals()
    return steps.count


def test_the_cost_of_an_alert_does_not_grow_with_the_segments() -> None:
    few, many = map(steps_of_an_alert, (4, 400))
    assert 0 < many <= SLACK * few


def steps_of_a_new_segment(segments: int) -> int:
    """Count the steps of the append that begins a new segment in the oldest, fully delivered file."""
    h = fill(segments, [ROUTINE] * 4)
    h.ack(ROUTINE, h.spool.status().next_seq - 1)
    h.append([ROUTINE], [8])
    newest = h.spool.log.segments[-1]
    while True:
        with counted() as steps:
            h.append([ROUTINE] * 4, [500] * 4)
        if h.spool.log.segments[-1] is not newest:
            assert len(h.spool.log.segments) <= segments + 1
            return steps.count


def test_the_cost_of_a_new_segment_does_not_grow_with_the_segments() -> None:
    few, many = map(steps_of_a_new_segment, (4, 400))
    assert 0 < many <= SLACK * few
