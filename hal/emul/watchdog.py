"""A watchdog that runs on simulated time.

An `EmulWatchdog` is the machine's access to the device between two resets; `backend.reboot` returns the next one,
which keeps the cause of the last reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hal.watchdog import Armed, WatchdogError, WatchdogErrorKind

TIMEOUT_SECONDS_MAX = 600


class Timer(Protocol):
    """A scheduled call, like `asyncio.TimerHandle`."""

    def cancel(self) -> None:
        """Cancel the call."""
        ...


CallLater = Callable[[float, Callable[[], None]], Timer]


class EmulWatchdogBackend:
    """Control of an emulated watchdog. For the simulator and for tests."""

    def __init__(self, watchdog: EmulWatchdog) -> None:
        self._watchdog = watchdog
        self.busy = False
        """Whether another program owns the watchdog."""
        self.nowayout = False
        """Whether it cannot be stopped once started."""

    def reboot(self) -> EmulWatchdog:
        """Return the watchdog as the next boot finds it: stopped, with the cause of the last reset."""
        old = self._watchdog
        old._halt()
        old._powered_off = True
        return EmulWatchdog(old._call_later, old._reset, caused_last_reset=old._fired)


class EmulWatchdog:
    """`hal.watchdog.Watchdog`; calls `reset` when it fires. `call_later` is an event loop's method or equivalent."""

    def __init__(
        self, call_later: CallLater, reset: Callable[[], None], *, caused_last_reset: bool = False
    ) -> None:
        self._call_later, self._reset = call_later, reset
        self._caused_last_reset = caused_last_reset
        self._timeout_seconds = 0
        self._timer: Timer | None = None
        self._fired = self._powered_off = False
        self.backend = EmulWatchdogBackend(self)

    def start(self, timeout_seconds: int) -> Armed:
        """See `Watchdog.start`."""
        assert self._timer is None, "the watchdog is already started"
        self._check_alive()
        if self.backend.busy:
            raise WatchdogError(WatchdogErrorKind.BUSY, "another program owns the watchdog")
        if not 1 <= timeout_seconds <= TIMEOUT_SECONDS_MAX:
            message = f"the timeout must be 1 to {TIMEOUT_SECONDS_MAX} seconds, not {timeout_seconds}"
            raise WatchdogError(WatchdogErrorKind.TIMEOUT, message)
        self._timeout_seconds = timeout_seconds
        self._timer = self._call_later(timeout_seconds, self._fire)
        return Armed(timeout_seconds, self._caused_last_reset)

    def feed(self) -> None:
        """See `Watchdog.feed`."""
        self._check_alive()
        assert self._timer is not None, "the watchdog is not started"
        self._halt()
        self._timer = self._call_later(self._timeout_seconds, self._fire)

    def stop(self) -> None:
        """See `Watchdog.stop`."""
        self._check_alive()
        assert self._timer is not None, "the watchdog is not started"
        if self.backend.nowayout:
            raise WatchdogError(WatchdogErrorKind.UNSTOPPABLE, "the watchdog cannot be stopped")
        self._halt()

    def _check_alive(self) -> None:
        if self._powered_off:
            raise WatchdogError(WatchdogErrorKind.IO, "the machine was reset")

    def _halt(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._fired = self._powered_off = True
        self._timer = None
        self._reset()
