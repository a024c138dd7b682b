"""The site's codes for one port, prepared for comparison with received bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from settings.adapted import AdaptedPort, AlarmMapping, Control
from wire.standards.er7 import byte_forms
from wire.standards.rules import parse_time_ms

_T = TypeVar("_T")


class SiteCodes:
    """Assays, controls, alarms and ignored codes by the bytes that an instrument sends, in any usual character set.

    With `masked`, the bytes are those that `wire.standards.er7.mask` returns.
    """

    def __init__(self, port: AdaptedPort, *, masked: bool = False) -> None:
        self._port = port
        self._masked = masked
        self.tests: dict[bytes, str] = self._by_bytes(port.tests.items())
        self.ignored = set(self._by_bytes((code, True) for code in port.ignore))
        self.controls: dict[bytes, Control] = self._by_bytes(port.controls.items())
        self._alarms: dict[bytes, AlarmMapping] = self._by_bytes(port.alarms.items())

    def alarm(self, field: bytes, value: bytes) -> AlarmMapping | None:
        """Find the alarm of a code, written alone or as FIELD:VALUE in the site file."""
        return self._alarms.get(field + b":" + value) or self._alarms.get(value)

    def time_ms(self, *candidates: bytes) -> int | None:
        """Return the first valid time in UTC; None if there is none, or if the site uses the time of reception."""
        if self._port.time == "reception":
            return None
        for candidate in candidates:
            if (
                candidate
                and (ms := parse_time_ms(candidate.decode("latin-1"), self._port.timezone)) is not None
            ):
                return ms
        return None

    def _by_bytes(self, items: Iterable[tuple[str, _T]]) -> dict[bytes, _T]:
        """Key the values by every byte form of their texts."""
        result: dict[bytes, _T] = {}
        for text, value in items:
            for form in byte_forms(text.strip(" "), self._masked):
                result.setdefault(form, value)
        return result
