"""Readings are drawn beside the averages and extremes of a condition, and not beside other terms."""

from __future__ import annotations

import pytest

from datacenter.explanation.sides import compared_sides
from tests.support.datacenter.evaluation.triggers import trigger


@pytest.mark.parametrize(
    ("condition", "is_smoothed"),
    [
        ("mean(vacuum-pa, 1h) > 80000", True),
        ("max(vacuum-pa, 1h) > 80000", True),
        ("80000 < mean(vacuum-pa, 1h)", True),
        ("mean(vacuum-pa, 1h) > mean(vacuum-pa, 6h) + 100", True),
        ("jitter(vacuum-pa, 1d) > 1.1 * jitter(vacuum-pa, 28d)", False),
        ("mean(vacuum-pa, 1h) - mean(vacuum-pa, 6h) > 100", False),
        ("vacuum-pa > 80000", False),
    ],
)
def test_readings_are_drawn_beside_their_averages_and_extremes(condition: str, is_smoothed: bool) -> None:
    (sides,) = compared_sides(trigger(condition))
    assert sides.is_smoothed is is_smoothed
