"""The clock of an instrument, and its time formats."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

ZONE: Final = "Europe/Berlin"
"""The time zone of all laboratories; it has daylight saving time."""
YEAR_S: Final = 365 * 24 * 3600
_SECOND: Final = 10**9


class InstrumentClock:
    """The wall clock of an instrument in whole seconds, which may be wrong by years."""

    def __init__(self, wall_ns: Callable[[], int], dialect: Collection[str]) -> None:
        self._wall_ns = wall_ns
        self._has_offset = "time-with-offset" in dialect
        self._error_s = 0
        if "clock-years-behind" in dialect:
            self._error_s = -12 * YEAR_S
        elif "clock-years-ahead" in dialect:
            self._error_s = 9 * YEAR_S

    @property
    def is_right(self) -> bool:
        """Whether the box uses the instrument's times. It replaces times that are wrong by years with its own."""
        return not self._error_s

    def now_s(self) -> int:
        """Return the time in seconds since 1970."""
        return self._wall_ns() // _SECOND + self._error_s

    def compact(self, at_s: int) -> str:
        """Format a time as in HL7 and LIS2-A: local, YYYYMMDDHHMMSS, with an offset if the dialect includes it."""
        return f"{self._local(at_s):%Y%m%d%H%M%S}" + (f"{self._local(at_s):%z}" if self._has_offset else "")

    def extended(self, at_s: int) -> str:
        """Format a time as in POCT1-A: local, ISO 8601, with an offset from UTC if the dialect includes it."""
        return self._local(at_s).isoformat() if self._has_offset else f"{self._local(at_s):%Y-%m-%dT%H:%M:%S}"

    @staticmethod
    def _local(at_s: int) -> datetime:
        return datetime.fromtimestamp(at_s, UTC).astimezone(ZoneInfo(ZONE))
