"""A clock that runs faster than real time, for the data center and the fleet that reports to it."""

from __future__ import annotations

import time
from typing import NamedTuple


class FastClock(NamedTuple):
    """A clock that runs `speed` times as fast as real time, and shows the same time in all processes.

    It showed `begin_ms` when the machine's monotonic clock showed `monotonic_s`.
    """

    begin_ms: int
    monotonic_s: float
    speed: float

    @classmethod
    def starting(cls, begin_ms: int, speed: float) -> FastClock:
        """Return a clock that shows `begin_ms` now."""
        return cls(begin_ms, time.monotonic(), speed)

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        return self.begin_ms + int((time.monotonic() - self.monotonic_s) * self.speed * 1000)
