"""A wall clock that follows the simulation's time, until somebody sets it wrong."""

from __future__ import annotations

from collections.abc import Callable


class EmulClockBackend:
    """What the world does to a wall clock. For the simulator and for tests."""

    def __init__(self, clock: EmulClock) -> None:
        self._clock = clock

    def jump(self, ns: int) -> None:
        """Set the clock `ns` nanoseconds forwards, or backwards when negative."""
        self._clock._offset_ns += ns


class EmulClock:
    """`hal.clock.WallClock` over `now_ns`, which counts nanoseconds since 1970-01-01T00:00:00Z."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._offset_ns = 0
        self.backend = EmulClockBackend(self)

    def now_ns(self) -> int:
        """See `WallClock.now_ns`."""
        return self._now_ns() + self._offset_ns
