"""The data center's program evaluates records as they are stored, and those stored before it started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import pytest

from datacenter.evaluation.evaluator import Advance, Evaluator
from datacenter.evaluation.follower import WATCH_MS, Follower
from datacenter.evaluation.silence import SilenceWatch
from tests.support.eventually import eventually
from tests.support.runner.logged import logged


class Recorded:
    """Stands for the evaluator: records the boxes, and fails for those of `failing`."""

    def __init__(self, *known: str) -> None:
        self.known, self.advanced, self.failing = list(known), list[str](), dict[str, Exception]()

    def boxes(self) -> list[str]:
        return self.known

    def advance(self, box: str, now_ms: int) -> Advance:
        self.advanced.append(box)
        if box in self.failing:
            raise self.failing[box]
        return Advance()


async def run(evaluator: Recorded, *stored: set[str], finished: Callable[[], bool] = lambda: True) -> None:
    """Run a follower while batches of the boxes in `stored` are stored, set by set, and until it is `finished`."""
    follower = Follower(cast(Evaluator, evaluator), None, lambda: 7)
    task = asyncio.ensure_future(follower.run())
    await eventually(lambda: set(evaluator.advanced) == set(evaluator.known))
    for boxes in stored:
        seen = len(evaluator.advanced)
        follower.stored(boxes)
        await eventually(lambda seen=seen, boxes=boxes: len(evaluator.advanced) == seen + len(boxes))
    await eventually(finished)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_earlier_records_are_evaluated_at_the_start() -> None:
    evaluator = Recorded("RAP-1", "RAP-2")
    asyncio.run(run(evaluator))
    assert evaluator.advanced == ["RAP-1", "RAP-2"]


def test_boxes_are_evaluated_when_their_batches_are_stored() -> None:
    evaluator = Recorded("RAP-1")
    asyncio.run(run(evaluator, {"RAP-3", "RAP-2"}, {"RAP-2"}))
    assert evaluator.advanced == ["RAP-1", "RAP-2", "RAP-3", "RAP-2"]


def test_a_failure_concerns_one_box_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = Recorded("RAP-1", "RAP-2", "RAP-3")
    evaluator.failing = {"RAP-2": ValueError("a record")}
    with caplog.at_level(logging.ERROR):
        asyncio.run(run(evaluator, {"RAP-2"}, finished=lambda: len(caplog.records) == 2))
    assert evaluator.advanced == ["RAP-1", "RAP-2", "RAP-3", "RAP-2"]
    assert logged(caplog, "datacenter") == ["evaluation of RAP-2 failed: ValueError"] * 2


class RecordedWatch:
    """Stands for the watch for silence: records the times at which it is called."""

    def __init__(self) -> None:
        self.times = list[int]()

    def advance(self, now_ms: int) -> None:
        self.times.append(now_ms)


async def look(times_ms: list[int]) -> list[int]:
    """Store a batch at each of the times; return those at which the follower looked for silence."""
    evaluator, watch, clock_ms = Recorded("RAP-1"), RecordedWatch(), times_ms[:1]
    evaluated = list[float]()
    follower = Follower(
        cast(Evaluator, evaluator),
        None,
        lambda: clock_ms[0],
        cast(SilenceWatch, watch),
        evaluated=evaluated.append,
    )
    task = asyncio.ensure_future(follower.run())
    await eventually(lambda: watch.times == clock_ms)
    for clock_ms[0] in times_ms[1:]:
        seen = len(evaluated)
        follower.stored({"RAP-1"})
        await eventually(lambda seen=seen: len(evaluated) == seen + 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return watch.times


def test_the_watch_for_silence_follows_the_clock_that_measures_silence() -> None:
    start_ms = 1_000_000
    times_ms = [start_ms, start_ms + WATCH_MS - 1, start_ms + WATCH_MS, start_ms + WATCH_MS + 1]
    watched = asyncio.run(look([*times_ms, start_ms + 3 * WATCH_MS, start_ms + 4 * WATCH_MS]))
    assert watched[:2] == [start_ms, start_ms + WATCH_MS]
    assert watched[2] == start_ms + 3 * WATCH_MS


def test_the_delay_of_evaluation_is_measured_and_a_failed_one_remains_late() -> None:
    async def follow() -> None:
        evaluator, delays, failures = Recorded(), list[float](), list[int]()
        follower = Follower(
            cast(Evaluator, evaluator),
            None,
            lambda: 7,
            evaluated=delays.append,
            failed=lambda: failures.append(1),
        )
        assert follower.lag_s() == 0
        evaluator.failing = {"RAP-2": ValueError("a record")}
        follower.stored({"RAP-1", "RAP-2"})
        stored_at = asyncio.get_running_loop().time()
        assert follower.lag_s() >= 0
        task = asyncio.ensure_future(follower.run())
        await eventually(lambda: evaluator.advanced == ["RAP-1", "RAP-2"] and bool(failures))
        await eventually(lambda: asyncio.get_running_loop().time() > stored_at)
        assert len(delays) == 1 and follower.lag_s() > 0
        evaluator.failing.clear()
        follower.stored({"RAP-2"})
        await eventually(lambda: len(delays) == 2)
        assert follower.lag_s() == 0 and delays[1] > delays[0]
        task.cancel()

    asyncio.run(follow())
