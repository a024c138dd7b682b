"""Watchdog: a timer beside the processor that resets the machine unless the program keeps saying that it is well."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol


class WatchdogErrorKind(StrEnum):
    """What the caller can do about it."""

    MISSING = "missing"  # the machine has none, or its driver is not loaded
    BUSY = "busy"  # another program feeds it (systemd's RuntimeWatchdogSec=)
    DENIED = "denied"  # this process may not
    TIMEOUT = "timeout"  # the device cannot wait that long, or so short
    UNSTOPPABLE = "unstoppable"  # the kernel was told never to stop it (`nowayout`): feed on
    UNSUPPORTED = "unsupported"  # this installation lacks a part; the message says what to install
    IO = "io"  # the driver failed


class WatchdogError(Exception):
    """An operating error of a watchdog; callers branch on `kind` alone."""

    def __init__(self, kind: WatchdogErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Armed(NamedTuple):
    """What is known once the watchdog runs."""

    timeout_seconds: int
    """How long the device really waits: it may count coarser than was asked for."""
    caused_last_reset: bool
    """Whether it was the watchdog that reset the machine the last time; False also where the device cannot tell."""


class Watchdog(Protocol):
    """The machine's watchdog. It begins stopped; every call is quick."""

    def start(self, timeout_seconds: int) -> Armed:
        """Have the machine reset when `feed` is not called for so long.

        On return the time runs, and goes on running when this program dies. Raises (the watchdog does not run):
        MISSING, BUSY, DENIED, TIMEOUT, UNSUPPORTED, IO.
        """
        ...

    def feed(self) -> None:
        """On return the time begins anew. Only after `start`. Raises: IO."""
        ...

    def stop(self) -> None:
        """On return the watchdog is stopped, and free for others; it may be started again. Only after `start`.

        Raises: UNSTOPPABLE, IO: it still runs, and wants to be fed.
        """
        ...
