"""Reads the messages of HL7 v2 chapter 13: equipment status, inventory and notification."""

from __future__ import annotations

from typing import Final

from settings.adapted import AlarmMapping
from wire.messages import INT_MAX, Alert, Inventory, Status
from wire.standards.er7 import Er7Message, Segment
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.hl7.site import Hl7Site
from wire.standards.rules import parse_decimal

_STATES: Final = {
    **dict.fromkeys((b"PU", b"IN", b"CO", b"CL", b"MA"), "maintenance"),
    b"ID": "idle",
    b"OP": "running",
    **dict.fromkeys((b"PA", b"PD", b"ES"), "stopped"),
}
"""Table 0365, equipment state."""
_NORMAL_LEVELS: Final = (b"", b"N")
"""Table 0367, alert level: normal."""
_SUBSTANCE_OK: Final = (b"", b"OK")
"""Table 0383, substance status: not an alarm."""
_TEST_UNITS: Final = frozenset((b"", b"TEST", b"TESTS", b"{TEST}", b"{TESTS}", b"TST", b"T", b"EA", b"1"))
"""Values of INV-11 (unit) that mean a number of tests."""


def read_status(message: Er7Message, site: Hl7Site) -> Extract:
    """Read ESU^U01: the state of the equipment and its alert level."""
    extract = Extract()
    for segment in message.segments():
        if segment.name == b"EQU":
            at_ms = site.time_ms(segment.first(2), message.header.first(7))
            _add_state(extract, segment.first(3), at_ms)
            if (level := segment.first(5)) not in _NORMAL_LEVELS:
                _add_alarm(extract, site.alarm(b"EQU-5", level), at_ms)
    return extract


def read_inventory(message: Er7Message, site: Hl7Site) -> Extract:
    """Read INU^U05: the tests left by assay, summed over its containers, and alarms of substances."""
    extract = Extract()
    at_ms = site.time_ms(message.header.first(7))
    tests_left: dict[str, int] = {}
    alarms: list[AlarmMapping | None] = []
    for segment in message.segments():
        if segment.name == b"EQU":
            at_ms = site.time_ms(segment.first(2), message.header.first(7))
        elif segment.name == b"INV" and segment.first(1) not in site.ignored:
            _add_substance(extract, segment, site, tests_left)
            if (status := segment.first(2)) not in _SUBSTANCE_OK:
                alarms.append(site.alarm(b"INV-2", status))
    if tests_left:
        extract.findings.append(Finding(Inventory, (tests_left,), at_ms))
    for alarm in alarms:
        _add_alarm(extract, alarm, at_ms)
    return extract


def read_notification(message: Er7Message, site: Hl7Site) -> Extract:
    """Read EAN^U09: an alarm for each notification code (NDS-4). Texts and notes are not read."""
    extract = Extract()
    for segment in message.segments():
        if segment.name == b"NDS":
            at_ms = site.time_ms(segment.first(2), message.header.first(7))
            _add_alarm(extract, site.alarm(b"NDS-4", segment.first(4)), at_ms)
    return extract


def _add_state(extract: Extract, code: bytes, at_ms: int | None) -> None:
    """Add a status; an empty state means no change."""
    if state := _STATES.get(code):
        extract.findings.append(Finding(Status, (state, 0, {}), at_ms))
    elif code:
        extract.counts[Reason.VALUE_UNREADABLE] += 1


def _add_alarm(extract: Extract, alarm: AlarmMapping | None, at_ms: int | None) -> None:
    if alarm is None:
        extract.counts[Reason.ALARM_UNKNOWN] += 1
    else:
        extract.findings.append(Finding(Alert, (alarm.code, alarm.component, alarm.severity), at_ms))


def _add_substance(extract: Extract, segment: Segment, site: Hl7Site, tests_left: dict[str, int]) -> None:
    assay = site.tests.get(segment.first(1))
    if assay is None:
        extract.counts[Reason.TEST_UNKNOWN] += 1
        return
    quantity = segment.first(9) or segment.first(8)
    if not quantity:
        return  # an unknown quantity is not zero
    number = parse_decimal(quantity.decode("latin-1"))
    total = tests_left.get(assay, 0) + int(number) if number is not None and number >= 0 else -1
    if 0 <= total <= INT_MAX and segment.first(11).upper() in _TEST_UNITS:
        tests_left[assay] = total
    else:
        extract.counts[Reason.VALUE_UNREADABLE] += 1
