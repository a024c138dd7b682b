"""The data center's program evaluates what it stores, and what was stored before it started."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from datacenter.evaluation.evaluator import Advance, Evaluator
from datacenter.evaluation.follower import Follower
from tests.support.eventually import eventually


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


async def run(evaluator: Recorded, *named: set[str]) -> None:
    follower = Follower(cast(Evaluator, evaluator), None, lambda: 7)
    task = asyncio.ensure_future(follower.run())
    await eventually(lambda: set(evaluator.advanced) == set(evaluator.known))
    for boxes in named:
        seen = len(evaluator.advanced)
        follower.stored(boxes)
        await eventually(lambda seen=seen, boxes=boxes: len(evaluator.advanced) == seen + len(boxes))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_was_stored_before_is_evaluated_at_the_start() -> None:
    evaluator = Recorded("RAP-1", "RAP-2")
    asyncio.run(run(evaluator))
    assert evaluator.advanced == ["RAP-1", "RAP-2"]


def test_boxes_of_which_batches_were_stored_are_evaluated() -> None:
    evaluator = Recorded("RAP-1")
    asyncio.run(run(evaluator, {"RAP-3", "RAP-2"}, {"RAP-2"}))
    assert evaluator.advanced == ["RAP-1", "RAP-2", "RAP-3", "RAP-2"]


def test_a_failure_concerns_one_box_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = Recorded("RAP-1", "RAP-2", "RAP-3")
    evaluator.failing = {"RAP-2": ValueError("a record")}
    with caplog.at_level(logging.ERROR):
        asyncio.run(run(evaluator, {"RAP-2"}))
    assert evaluator.advanced == ["RAP-1", "RAP-2", "RAP-3", "RAP-2"]
    assert [record.getMessage() for record in caplog.records] == [
        "evaluation of RAP-2 failed: ValueError('a record')"
    ] * 2
