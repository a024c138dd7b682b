"""Wall clock: the civil time of day, which may jump. Durations are measured by the event loop's clock."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class ClockErrorKind(StrEnum):
    """What the caller can do about it."""

    NOT_PERMITTED = "not permitted"  # the program may not set this clock
    RANGE = "out of range"  # the clock cannot hold this time


class ClockError(Exception):
    """A clock could not be set; it continues as before. Callers branch on `kind` alone."""

    def __init__(self, kind: ClockErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class WallClock(Protocol):
    """Civil time of day."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z, as this machine has them. Never fails.

        Two calls may go backwards, or forwards by years: use it to stamp, never to measure.
        """
        ...

    def set(self, now_ns: int) -> None:
        """On return the clock continues from `now_ns`, for every program of the machine.

        Raises: ClockError NOT_PERMITTED or RANGE.
        """
        ...
