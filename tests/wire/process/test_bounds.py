"""An alarm is raised once at 80 % of a limit, and cleared once below 70 %."""

from __future__ import annotations

import pytest

from wire.process.bounds import Bound, Bounds, Level, Measured


class Quantity:
    """A bound whose amount the test sets, and the reported changes of its alarm."""

    def __init__(self, limit: float = 100.0, **options: float) -> None:
        self.amount: float | None = 0.0
        self.limit = limit
        self.reported: list[tuple[bool, int]] = []
        self.bounds = Bounds(self._report)
        self.bound = Bound("things", self._measure, port=3, **options)
        self.bounds.add(self.bound)

    def _measure(self) -> Measured | None:
        return None if self.amount is None else (self.amount, self.limit)

    def _report(self, level: Level) -> None:
        assert (level.name, level.port) == ("things", 3)
        self.reported.append((level.is_near, level.percent))

    def at(self, amount: float | None) -> list[tuple[bool, int]]:
        """Set the amount, check the bounds, and return the changes of the alarm that this reports."""
        self.amount, self.reported = amount, []
        self.bounds.check()
        return self.reported


def test_the_alarm_is_raised_at_80_percent_and_not_at_79() -> None:
    quantity = Quantity()
    assert quantity.at(79) == []
    assert not quantity.bounds.has_alarm
    assert quantity.at(80) == [(True, 80)]
    assert quantity.bounds.has_alarm


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 10, 16, 1000, 2000, 20480, 2**53 - 1])
def test_the_threshold_is_exact_at_any_limit(limit: int) -> None:
    threshold = -(-4 * limit // 5)
    quantity = Quantity(limit)
    assert quantity.at(threshold - 1) == []
    assert [is_near for is_near, _ in quantity.at(threshold)] == [True]


def test_an_alarm_is_raised_once_and_cleared_below_70_percent_only() -> None:
    quantity = Quantity()
    assert [quantity.at(amount) for amount in (90, 100, 79, 70, 81)] == [[(True, 90)], [], [], [], []]
    assert quantity.at(69) == [(False, 69)]
    assert quantity.at(79) == []
    assert quantity.at(80) == [(True, 80)]


def test_a_bound_can_be_cleared_at_another_share() -> None:
    quantity = Quantity(clear_share=0.5)
    assert [quantity.at(amount) for amount in (80, 50, 49)] == [[(True, 80)], [], [(False, 49)]]


def test_an_unknown_value_changes_nothing() -> None:
    quantity = Quantity()
    assert quantity.at(None) == []
    assert quantity.bounds.levels == ()
    quantity.at(85)
    assert quantity.at(None) == []
    assert quantity.bounds.has_alarm
    assert quantity.at(10) == [(False, 10)]


def test_a_limit_of_zero_raises_the_alarm() -> None:
    assert Quantity(0).at(0) == [(True, 100)]


def test_the_alarm_of_a_removed_item_is_cleared() -> None:
    quantity = Quantity()
    quantity.at(100)
    quantity.reported = []
    quantity.bounds.remove(quantity.bound)
    assert quantity.reported == [(False, 0)]
    assert not quantity.bounds.has_alarm
    assert quantity.at(100) == []
