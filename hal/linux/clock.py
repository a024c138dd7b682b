"""The kernel's wall clock."""

from __future__ import annotations

import time


class LinuxClock:
    """`hal.clock.WallClock` over CLOCK_REALTIME."""

    def now_ns(self) -> int:
        """See `WallClock.now_ns`."""
        return time.time_ns()
