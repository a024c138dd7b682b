"""What `hal.clock` promises."""

from __future__ import annotations

from collections.abc import Callable

from hal.clock import ClockError, ClockErrorKind, WallClock

_HOUR_NS = 3600 * 10**9


def clock_counts_nanoseconds(clock: WallClock) -> None:
    """Integer nanoseconds, and two calls in a row are not hours apart unless somebody set the clock."""
    first, second = clock.now_ns(), clock.now_ns()
    assert type(first) is int and abs(second - first) < _HOUR_NS


def clock_continues_from_what_it_is_set_to(clock: WallClock) -> None:
    """Set to the present time, so that a real machine's clock is moved by microseconds; or it is not permitted."""
    before = clock.now_ns()
    try:
        clock.set(before)
    except ClockError as error:
        assert error.kind is ClockErrorKind.NOT_PERMITTED, error
    assert abs(clock.now_ns() - before) < _HOUR_NS


def clock_refuses_times_out_of_range(clock: WallClock) -> None:
    """And continues as before."""
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
    clock_continues_from_what_it_is_set_to,
    clock_refuses_times_out_of_range,
)
