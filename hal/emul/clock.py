"""A wall clock that follows simulated time, with an offset that the simulator and the program can set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hal.clock import ClockError, ClockErrorKind

_NS_MAX: Final = 2**63 - 1
"""The largest time that the kernel's clock can represent."""


class EmulClockBackend:
    """Control of an emulated wall clock. For the simulator and for tests."""

    def __init__(self, clock: EmulClock) -> None:
        self._clock = clock
        self.may_be_set = True

    def jump(self, ns: int) -> None:
        """Set the clock forwards by `ns` nanoseconds; backwards if negative."""
        self._clock._offset_ns += ns


class EmulClock:
    """`hal.clock.WallClock` over `now_ns`, a source of nanoseconds since 1970-01-01T00:00:00Z."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._offset_ns = 0
        self.backend = EmulClockBackend(self)

    def now_ns(self) -> int:
        """See `WallClock.now_ns`."""
        return self._now_ns() + self._offset_ns

    def set(self, now_ns: int) -> None:
        """See `WallClock.set`."""
        if not self.backend.may_be_set:
            raise ClockError(ClockErrorKind.NOT_PERMITTED, "the program may not set the clock")
        if not 0 <= now_ns <= _NS_MAX:
            raise ClockError(ClockErrorKind.RANGE, f"the clock cannot represent {now_ns} ns")
        self._offset_ns = now_ns - self._now_ns()
