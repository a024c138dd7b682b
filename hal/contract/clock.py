"""Conformance checks of `hal.clock`."""

from __future__ import annotations

from collections.abc import Callable

from hal.clock import ClockError, ClockErrorKind, WallClock

_HOUR_NS = 3600 * 10**9


def clock_counts_nanoseconds(clock: WallClock) -> None:
    """Time stamps are integer nanoseconds and advance by less than an hour between two calls."""
    first, second = clock.now_ns(), clock.now_ns()
    assert type(first) is int and abs(second - first) < _HOUR_NS


def clock_runs_from_the_set_time(clock: WallClock) -> None:
    """A set clock runs from the given time, or setting raises NOT_PERMITTED. Sets the current time."""
    before = clock.now_ns()
    try:
        clock.set(before)
    except ClockError as error:
        assert error.kind is ClockErrorKind.NOT_PERMITTED, error
    assert abs(clock.now_ns() - before) < _HOUR_NS


def clock_refuses_times_out_of_range(clock: WallClock) -> None:
    """Setting an unrepresentable time raises ClockError and leaves the clock running."""
    for wrong in (-1, 2**63):
        try:
            clock.set(wrong)
        except ClockError:
            pass
        else:
            raise AssertionError(f"the clock was set to {wrong} ns")
    assert clock.now_ns() > 0


CLOCK_CHECKS: tuple[Callable[[WallClock], None], ...] = (
    clock_counts_nanoseconds,
    clock_runs_from_the_set_time,
    clock_refuses_times_out_of_range,
)
