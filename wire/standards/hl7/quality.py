"""Extracts quality control from results: ORU^R01 and OUL^R21 to R24, the latter as in IHE LAW (LAB-29).

A result is quality control if three conditions hold: the instrument marks it (MSH-11 or SPM-11 is Q, and SPM-11 has
no other value), the site has entered the control's id, and the message's group has no content about a person. Any
other result is treated as a patient's: its order is counted, and its content is discarded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from settings.adapted import Control
from wire.messages import Quality
from wire.standards.er7 import Er7Message, Segment
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.hl7.site import Hl7Site
from wire.standards.rules import deviation_msd, is_placeholder, parse_decimal

_MARK: Final = b"Q"
_PERSON_FIELDS: Final = (5, 6, 9, 11, 13, 14, 19)
"""PID: name, mother's name, alias, address, telephones, social security number; not PID-3 and PID-7, in which
analyzers send the lot of a control and its expiry date."""
_PERSON_SEGMENTS: Final = (b"NK1", b"GT1", b"IN1", b"MRG")
_ID_FIELDS: Final = {b"PID": (2, 3), b"SPM": (2, 3), b"INV": (1, 16), b"OBR": (2, 3)}
_NO_RESULT: Final = (b"D", b"I", b"N", b"O", b"W", b"X")
"""Table 0085, result status: deleted, pending, not asked, order only, wrong, cannot be obtained."""


@dataclass(slots=True)
class _Order:
    """An order (OBR) with its results (OBX), until its end, because in ORU^R01 the specimen follows the results."""

    service: bytes
    time: bytes
    ids: list[bytes]
    marks: list[bytes] = field(default_factory=list)
    """Values of SPM-11 in specimens that follow the results."""
    results: list[Segment] = field(default_factory=list)


class QualityReader:
    """Reads one message with results."""

    def __init__(self, message: Er7Message, site: Hl7Site) -> None:
        self._message = message
        self._site = site
        self._specimen_first = message.header.first(9) == b"OUL"
        self._person = False
        self._ids: dict[bytes, list[bytes]] = {}
        self._mark = b""
        self._order: _Order | None = None
        self._extract = Extract()
        name, _, number = site.dialect.control_id.partition("-")
        self._id_fields = {name.encode(): (int(number),)} if name else _ID_FIELDS

    def read(self) -> Extract:
        """Return the findings of the message."""
        for segment in self._message.segments():
            self._read_segment(segment)
        self._end_order()
        return self._extract

    def _read_segment(self, segment: Segment) -> None:
        name = segment.name
        if name == b"OBX":
            if self._order is None:
                self._order = _Order(b"", b"", [])
            self._order.results.append(segment)
        elif name == b"OBR":
            self._end_order()
            self._order = _Order(segment.first(4), segment.first(7), self._ids_of(segment))
        elif name == b"PID":
            self._begin_group()
            self._person = any(segment.has_content(number) for number in _PERSON_FIELDS)
            self._ids[name] = self._ids_of(segment)
        elif name == b"SPM":
            self._read_specimen(segment)
        elif name == b"INV":
            self._ids[name] = self._ids_of(segment)
        elif name in _PERSON_SEGMENTS:
            self._person = True

    def _begin_group(self) -> None:
        self._end_order()
        self._ids.clear()
        self._mark = b""

    def _read_specimen(self, segment: Segment) -> None:
        if self._order is not None and not self._specimen_first:
            self._order.marks.append(segment.only(11))
            self._order.ids += self._ids_of(segment)
            return
        self._end_order()
        self._ids.pop(b"INV", None)
        self._mark = segment.only(11)
        self._ids[b"SPM"] = self._ids_of(segment)

    def _ids_of(self, segment: Segment) -> list[bytes]:
        return [segment.first(number) for number in self._id_fields.get(segment.name, ())]

    def _end_order(self) -> None:
        """Add the results of the order, or count it as a patient's or an unknown control's."""
        order, self._order = self._order, None
        if order is None or not order.results or order.service in self._site.ignored:
            return
        if self._person or not self._is_marked(order):
            self._extract.counts[Reason.PATIENT_RESULTS_DROPPED] += 1
            return
        control = self._control_of(order)
        if control is None:
            self._extract.counts[Reason.CONTROL_UNKNOWN] += 1
            return
        for result in order.results:
            self._add_result(control, order, result)

    def _is_marked(self, order: _Order) -> bool:
        """Return whether the message or a specimen is marked as quality control, and no specimen has another mark."""
        marks = [mark for mark in (self._mark, *order.marks) if mark]
        return all(mark == _MARK for mark in marks) and bool(marks or self._message.header.only(11) == _MARK)

    def _control_of(self, order: _Order) -> Control | None:
        """Return the control that the identifiers name; None if it is unknown or ambiguous."""
        ids = [*order.ids, *(text for texts in self._ids.values() for text in texts)]
        controls = [control for text in ids if (control := self._site.controls.get(text))]
        return controls[0] if controls and all(control is controls[0] for control in controls) else None

    def _add_result(self, control: Control, order: _Order, result: Segment) -> None:
        code, numeric = result.first(3), result.first(2) in (b"NM", b"SN")
        assay = self._site.tests.get(code)
        if code in self._site.ignored or result.first(11) in _NO_RESULT or (assay is None and not numeric):
            return
        counts = self._extract.counts
        text = _value_text(result).decode("latin-1")
        if is_placeholder(text):
            return
        if assay is None:
            counts[Reason.TEST_UNKNOWN] += 1
            return
        value = parse_decimal(text)
        if value is None:
            counts[Reason.VALUE_UNREADABLE] += numeric
        elif assay not in control.targets:
            counts[Reason.CONTROL_UNKNOWN] += 1
        else:
            self._add_deviation(control, assay, value, order, result)

    def _add_deviation(
        self, control: Control, assay: str, value: Decimal, order: _Order, result: Segment
    ) -> None:
        deviation = deviation_msd(value, control.targets[assay])
        if deviation is None:
            self._extract.counts[Reason.VALUE_UNREADABLE] += 1
            return
        header_time = self._message.header.first(7)
        at_ms = self._site.time_ms(result.first(19), result.first(14), order.time, header_time)
        self._extract.findings.append(Finding(Quality, (assay, control.level, deviation), at_ms))


def _value_text(result: Segment) -> bytes:
    """Return OBX-5: a number (NM), or the number of a structured number (SN) without comparator and range."""
    if result.first(2) != b"SN":
        return result.text(5)
    comparator, number = result.component(5, 1), result.component(5, 2)
    simple = comparator in (b"", b"=") and not result.component(5, 3)
    return number if simple else b"?"


def read_quality(message: Er7Message, site: Hl7Site) -> Extract:
    """Read a message with results."""
    return QualityReader(message, site).read()
