"""What `hal.clock` promises."""

from __future__ import annotations

from collections.abc import Callable

from hal.clock import WallClock

_HOUR_NS = 3600 * 10**9


def clock_counts_nanoseconds(clock: WallClock) -> None:
    """Integer nanoseconds, and two calls in a row are not hours apart unless somebody set the clock."""
    first, second = clock.now_ns(), clock.now_ns()
    assert type(first) is int and abs(second - first) < _HOUR_NS


CLOCK_CHECKS: tuple[Callable[[WallClock], None], ...] = (clock_counts_nanoseconds,)
