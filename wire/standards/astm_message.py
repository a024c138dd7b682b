"""Extracts quality control and alarms from the records of a LIS2-A message (ASTM E1394).

A result is quality control if three conditions hold: the instrument marks it (H-12 or O-12 is Q, and O-12 has no
other value), the site has entered the id of the control (O-3), and the patient record has no content. Any other
result is treated as a patient's: its order is counted, and its results and comments are not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final, NamedTuple

from settings.adapted import AdaptedPort, AlarmMapping, Control
from wire.messages import Alert, Quality
from wire.standards.astm_dialect import AstmDialect
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.lis2 import Lis2Record, delimiters_of
from wire.standards.rules import deviation_msd, is_placeholder, parse_decimal, parse_time_ms

FINDINGS_MAX: Final = 256
"""Maximum number of findings of a message, and of all messages in a frame; a message that exceeds it is refused."""
_SEX: Final = 9
_SEX_UNKNOWN: Final = "U"
_NO_ALARM: Final = ("", "0")
_RECORDS: Final = b"HPORCQLhporcql"
"""Records that are read; the others are manufacturer's (M), scientific (S) or unknown."""


class _Position(NamedTuple):
    """The position of a value."""

    record: str
    field: int
    component: int


@cache
def _position(text: str) -> _Position:
    record, _, rest = text.partition("-")
    number, _, component = rest.partition(".")
    return _Position(record, int(number), int(component or 1))


@cache
def _markers(text: str) -> list[tuple[_Position, str]]:
    """Return the positions and values that mark quality control in a dialect."""
    markers = (marker.partition(":") for marker in text.split(" "))
    return [(_position(position), value.upper()) for position, _, value in markers]


@dataclass(slots=True)
class _Order:
    """The order to which the next results belong."""

    control: Control | None
    dropped: Reason | None
    """The reason why the results are not reported; None if they are."""
    time: str = ""
    counted: bool = False
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By assay, the parts that distinguish its first result from other rows of the same test."""


class AstmMessage:
    """Interprets the records of a message one by one into `extract`, in which alarms follow the results.

    `header` is the H record; empty if the message has none.
    """

    def __init__(self, port: AdaptedPort, dialect: AstmDialect, header: bytes) -> None:
        self.extract = Extract()
        self._alerts: list[Finding] = []
        self._port, self._dialect = port, dialect
        self._delimiters = delimiters_of(header)
        self._has_header = bool(header)
        self._control_position = _position(dialect.control_id)
        self._markers = _markers(dialect.control_markers)
        self._latest: dict[str, Lis2Record] = {}
        """The latest H, P and O record."""
        self._order: _Order | None = None

    def read(self, data: bytes, whole: bool) -> bool:
        """Interpret a record; return whether it is the terminator (L)."""
        if data[:1] not in _RECORDS:
            return False
        record = Lis2Record(data, self._delimiters, self._dialect.encoding, whole=whole)
        if record.type == "L":
            return True
        match record.type:
            case "H":
                self._latest["H"] = record
            case "P":
                self._latest["P"] = record
                self._latest.pop("O", None)
                self._order = None
            case "O":
                self._latest["O"] = record
                self._begin_order(record)
            case "R":
                self._result(record)
            case "C":
                self._comment(record)
            case "Q":
                self._count(Reason.QUERY_IGNORED)
        return False

    def end(self) -> None:
        """End the message, by its terminator or, for instruments that send none, by what follows it."""
        if self._has_header and len(self.extract.findings) + len(self._alerts) <= FINDINGS_MAX:
            self.extract.findings += self._alerts
        else:
            self.extract.findings.clear()
            self._count(Reason.MESSAGE_REFUSED)

    def _begin_order(self, record: Lis2Record) -> None:
        control = None
        if not self._is_marked() or self._has_patient():
            dropped: Reason | None = Reason.PATIENT_RESULTS_DROPPED
        else:
            control = self._control()
            dropped = None if control else Reason.CONTROL_UNKNOWN
        self._order = _Order(control, dropped, record.text(23))

    def _is_marked(self) -> bool:
        """Return whether the order is marked as quality control, or is unmarked in a message that is marked."""
        marked = {"H": False, "P": False, "O": False}
        for position, value in self._markers:
            marked[position.record] |= self._at(position).upper() == value
        contradicted = any(position.record == "O" and self._at(position) for position, _ in self._markers)
        return marked["O"] or (not contradicted and (marked["H"] or marked["P"]))

    def _has_patient(self) -> bool:
        """Return whether the patient record has more than a number, the control's id and the sex U (unknown)."""
        patient = self._latest.get("P")
        if patient is None:
            return False
        allowed = {1, 2}
        if self._control_position.record == "P":
            allowed.add(self._control_position.field)
        if patient.text(_SEX).upper() == _SEX_UNKNOWN:
            allowed.add(_SEX)
        return not patient.whole or bool(patient.fields_with_content() - allowed)

    def _control(self) -> Control | None:
        return self._port.controls.get(self._at(self._control_position))

    def _at(self, position: _Position) -> str:
        record = self._latest.get(position.record)
        return record.only(position.field, position.component) if record else ""

    def _result(self, record: Lis2Record) -> None:
        order = self._order
        if order is None:
            order = self._order = _Order(None, Reason.PATIENT_RESULTS_DROPPED)
        if order.control is None:
            if not order.counted and order.dropped:
                self._count(order.dropped)
            order.counted = True
            return
        codes, kind = _test_of(record)
        if not any(code in self._port.ignore for code in codes):
            self._measurement(record, order, order.control, codes, kind)

    def _measurement(
        self, record: Lis2Record, order: _Order, control: Control, codes: list[str], kind: tuple[str, ...]
    ) -> None:
        values = [part for part in record.components(4) if not is_placeholder(part)]
        if not values and record.whole:
            return
        assay = next((assay for code in codes if (assay := self._port.tests.get(code))), None)
        if assay is None or order.kinds.setdefault(assay, kind) != kind:
            self._count(Reason.TEST_UNKNOWN)
        elif assay not in control.targets:
            self._count(Reason.CONTROL_UNKNOWN)
        elif record.text(9).upper() not in ("", *self._dialect.result_statuses):
            self._count(Reason.RESULT_NOT_FINAL)
        else:
            single = record.whole and len(values) == 1 and not record.is_repeated(4)
            value = parse_decimal(values[0]) if single else None
            deviation = None if value is None else deviation_msd(value, control.targets[assay])
            self._find_quality(record, order, (assay, control.level, deviation))

    def _find_quality(self, record: Lis2Record, order: _Order, fields: tuple[str, int, int | None]) -> None:
        if None in fields:
            self._count(Reason.VALUE_UNREADABLE)
        else:
            self._find(self.extract.findings, Finding(Quality, fields, self._time(record, order)))

    def _time(self, record: Lis2Record, order: _Order) -> int | None:
        """Return the time of a result: the result's, else the order's, else the message's."""
        return self._first_time(record.text(13), record.text(12), order.time)

    def _first_time(self, *texts: str) -> int | None:
        """Return the first valid time, else the message's; None if the site uses the time of reception."""
        if self._port.time == "reception":
            return None
        header = self._latest.get("H")
        message_time = header.text(14) if header else ""
        for text in (*texts, message_time):
            if (ms := parse_time_ms(text, self._port.timezone)) is not None:
                return ms
        return None

    def _comment(self, record: Lis2Record) -> None:
        """Read an alarm in a comment on the message or on a control; other comments are not read."""
        about_control = self._order is not None and self._order.control is not None
        about_message = "P" not in self._latest and "O" not in self._latest and self._order is None
        code = record.only(4)
        if not (about_control or about_message) or code in _NO_ALARM:
            return
        if record.text(5).upper() not in tuple(self._dialect.alarm_types):
            return
        if alarm := self._alarm(code):
            self._find(
                self._alerts,
                Finding(Alert, (alarm.code, alarm.component, alarm.severity), self._first_time()),
            )
        else:
            self._count(Reason.ALARM_UNKNOWN)

    def _alarm(self, code: str) -> AlarmMapping | None:
        return self._port.alarms.get(f"C-4:{code}") or self._port.alarms.get(code)

    def _find(self, findings: list[Finding], finding: Finding) -> None:
        if len(findings) <= FINDINGS_MAX:
            findings.append(finding)

    def _count(self, reason: Reason) -> None:
        self.extract.counts[reason] += 1


def _test_of(record: Lis2Record) -> tuple[list[str], tuple[str, ...]]:
    """Return the forms of the test code in R-3, most exact first, and the parts that distinguish rows of one test.

    The code is the 4th component, followed by additions of the manufacturer: a name, a dilution, the kind of the row
    (ARCHITECT: F final, P in relative light units, I interpretation), the number of the replicate. A site may enter
    the code alone or with its additions. cobas analyzers append "/" and a dilution. Numbers do not distinguish rows.
    """
    parts = record.components(3)
    code = parts[3:] if len(parts) > 3 else parts
    exact = "^".join(code).rstrip("^")
    kind = tuple(part for part in code[1:] if not part.isdigit())
    return list(dict.fromkeys([exact, code[0], code[0].partition("/")[0]])), kind
