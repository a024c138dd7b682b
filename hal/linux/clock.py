"""The kernel's wall clock."""

from __future__ import annotations

import time

from hal.clock import ClockError, ClockErrorKind


class LinuxClock:
    """`hal.clock.WallClock` over CLOCK_REALTIME; setting it takes CAP_SYS_TIME."""

    def now_ns(self) -> int:
        """See `WallClock.now_ns`."""
        return time.time_ns()

    def set(self, now_ns: int) -> None:
        """See `WallClock.set`."""
        try:
            time.clock_settime_ns(time.CLOCK_REALTIME, now_ns)
        except PermissionError as error:
            raise ClockError(ClockErrorKind.NOT_PERMITTED, f"the clock cannot be set: {error}") from error
        except (OSError, OverflowError) as error:
            raise ClockError(ClockErrorKind.RANGE, f"the clock cannot hold {now_ns} ns: {error}") from error
