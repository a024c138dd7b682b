"""Records are evaluated up to the first missing one that may still arrive."""

from __future__ import annotations

import pytest

from datacenter.evaluation.frontier import PATIENCE_MS, EpochArrivals, frontier
from settings.ranges import RangeSet

NOW = 10 * PATIENCE_MS


@pytest.mark.parametrize(
    ("stored", "lost", "evaluated", "expected"),
    [
        ([(1, 10)], [], 0, 10),
        ([(1, 10)], [], 4, 10),
        ([(1, 10)], [], 10, 10),
        ([(1, 10), (12, 20)], [], 0, 10),
        ([(1, 10), (12, 20)], [(11, 11)], 0, 20),
        ([(1, 10), (12, 20)], [(11, 25)], 0, 25),
        ([(5, 10)], [], 0, 0),
        ([(5, 10)], [(1, 4)], 0, 10),
        ([(5, 10)], [], 4, 10),
        ([], [], 0, 0),
    ],
)
def test_the_frontier_is_before_the_first_missing_record(
    stored: list[tuple[int, int]], lost: list[tuple[int, int]], evaluated: int, expected: int
) -> None:
    arrivals = EpochArrivals(RangeSet(stored), RangeSet(lost), NOW)
    assert frontier(arrivals, evaluated, NOW) == expected


@pytest.mark.parametrize(
    ("newest_after_ms", "expected"),
    [(0, 10), (PATIENCE_MS - 1, 10), (PATIENCE_MS, 20), (PATIENCE_MS + 1, 20)],
)
def test_a_missing_record_is_skipped_if_the_box_sends_later_ones_for_long_enough(
    newest_after_ms: int, expected: int
) -> None:
    arrivals = EpochArrivals(RangeSet([(1, 10), (12, 20), (22, 30)]), RangeSet(), NOW + newest_after_ms)
    assert frontier(arrivals, 10, NOW) == expected


def test_the_missing_beginning_of_an_epoch_is_not_skipped_at_once() -> None:
    arrivals = EpochArrivals(RangeSet([(5, 10)]), RangeSet(), NOW)
    assert frontier(arrivals, 0, None) == 0
    assert frontier(arrivals, 0, NOW - PATIENCE_MS) == 10
