"""Wall clock: the civil time of day, which may jump. Measure durations with the event loop's clock."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class ClockErrorKind(StrEnum):
    """Error kinds that a caller can act on."""

    NOT_PERMITTED = "not permitted"  # this program may not set the clock
    RANGE = "out of range"  # the clock cannot represent this time


class ClockError(Exception):
    """The clock could not be set and is unchanged. Callers branch on `kind` alone."""

    def __init__(self, kind: ClockErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class WallClock(Protocol):
    """The machine's civil time of day."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970-01-01T00:00:00Z by this machine's clock. Never fails.

        The clock may be set backwards or forwards between two calls: use it for time stamps, never for durations.
        """
        ...

    def set(self, now_ns: int) -> None:
        """Set the clock for all programs of the machine; on return it runs from `now_ns`.

        Raises: ClockError NOT_PERMITTED or RANGE.
        """
        ...
