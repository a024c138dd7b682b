"""The clock of an instrument, and how it writes times."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

ZONE: Final = "Europe/Berlin"
"""The zone of all laboratories: with daylight saving time."""
YEAR_S: Final = 365 * 24 * 3600
_SECOND: Final = 10**9


class InstrumentClock:
    """The wall clock of an instrument in whole seconds, which may be years off."""

    def __init__(self, wall_ns: Callable[[], int], dialect: Collection[str]) -> None:
        self._wall_ns = wall_ns
        self._has_offset = "time-with-offset" in dialect
        self._off_s = 0
        if "clock-years-behind" in dialect:
            self._off_s = -12 * YEAR_S
        elif "clock-years-ahead" in dialect:
            self._off_s = 9 * YEAR_S

    @property
    def is_right(self) -> bool:
        """Whether the box takes its times; those of a clock that is years off are replaced by the box's."""
        return not self._off_s

    def now_s(self) -> int:
        """Its time, in seconds since 1970."""
        return self._wall_ns() // _SECOND + self._off_s

    def compact(self, at_s: int) -> str:
        """YYYYMMDDHHMMSS of HL7 and ASTM, in the zone of the laboratory, with its offset if the dialect has it."""
        return f"{self._local(at_s):%Y%m%d%H%M%S}" + (f"{self._local(at_s):%z}" if self._has_offset else "")

    def extended(self, at_s: int) -> str:
        """The form of ISO 8601 with an offset, as POCT1-A has it; without one if the dialect leaves it out."""
        return self._local(at_s).isoformat() if self._has_offset else f"{self._local(at_s):%Y-%m-%dT%H:%M:%S}"

    @staticmethod
    def _local(at_s: int) -> datetime:
        return datetime.fromtimestamp(at_s, UTC).astimezone(ZoneInfo(ZONE))
