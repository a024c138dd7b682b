"""The site's settings of an HL7 port, prepared for comparison with received bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from settings.adapted import AdaptedPort, Alarm, Control
from wire.standards.er7 import byte_forms
from wire.standards.hl7.dialect import hl7_dialect
from wire.standards.rules import parse_time_ms

_T = TypeVar("_T")


class Hl7Site:
    """Assays, controls, alarms and ignored codes by the bytes that an instrument sends.

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    def __init__(self, port: AdaptedPort) -> None:
        self.dialect = hl7_dialect(port.dialect)
        self.masked = self.dialect.charset == "gb18030"
        self._port = port
        self.tests: dict[bytes, str] = self._by_bytes(port.tests.items())
        self.ignored = set(self._by_bytes((code, True) for code in port.ignore))
        self.controls: dict[bytes, Control] = self._by_bytes(port.controls.items())
        self._alarms: dict[bytes, Alarm] = self._by_bytes(port.alarms.items())

    def alarm(self, field: bytes, value: bytes) -> Alarm | None:
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
            for form in byte_forms(text.strip(" "), self.masked):
                result.setdefault(form, value)
        return result
