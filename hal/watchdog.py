"""Watchdog: a hardware timer that resets the machine unless the program restarts it regularly."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol


class WatchdogErrorKind(StrEnum):
    """Error kinds that a caller can act on."""

    MISSING = "missing"  # the machine has no watchdog, or its driver is not loaded
    BUSY = "busy"  # another program owns it (systemd's RuntimeWatchdogSec=)
    DENIED = "denied"  # this process lacks permission
    TIMEOUT = "timeout"  # the device does not support this timeout
    UNSTOPPABLE = "unstoppable"  # the kernel is configured never to stop it (`nowayout`): continue feeding it
    UNSUPPORTED = "unsupported"  # this installation lacks a component; the message says what to install
    IO = "io"  # the driver failed


class WatchdogError(Exception):
    """An operating error of a watchdog; callers branch on `kind` alone."""

    def __init__(self, kind: WatchdogErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Armed(NamedTuple):
    """The state of a started watchdog."""

    timeout_seconds: int
    """The device's real timeout, which may differ from the requested one by its resolution."""
    caused_last_reset: bool
    """Whether the watchdog caused the last reset of the machine; False also if the device does not report it."""


class Watchdog(Protocol):
    """The machine's watchdog, initially stopped. No call blocks."""

    def start(self, timeout_seconds: int) -> Armed:
        """Start the timer: the machine is reset unless `feed` is called within the timeout.

        The timer keeps running when this program dies. Raises: MISSING, BUSY, DENIED, TIMEOUT, UNSUPPORTED, IO; the
        watchdog is then stopped.
        """
        ...

    def feed(self) -> None:
        """Restart the timer. Only after `start`. Raises: IO."""
        ...

    def stop(self) -> None:
        """Stop the watchdog and release it; it may be started again. Only after `start`.

        Raises: UNSTOPPABLE, IO: it still runs and must be fed.
        """
        ...
