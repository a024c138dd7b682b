"""Parses POCT1-A messages, and extracts the findings of DST.R01, OBS.R02 and EVS.R01.

Documents are read as bytes (ISO 8859-1, regardless of the declaration), so that codes are compared as in
`wire.standards.er7` and no character can cause a decoding error. Document type declarations, and with them entities,
are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from settings.adapted import Control
from wire.messages import Alert, Quality, Status
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.rules import deviation_msd, parse_decimal
from wire.standards.site_codes import SiteCodes

_DEPTH_MAX: Final = 16
_ELEMENTS_MAX: Final = 1024
"""A bound on memory, because the parser keeps the name of each element; an element has about 40 bytes."""
_VALUES: Final = frozenset(
    (
        *(b"HDR.control_id", b"HDR.creation_dttm", b"ACK.type_cd", b"ACK.ack_control_id"),
        *(b"DST.status_dttm", b"DST.condition_cd"),
        *(b"DST.new_observations_qty", b"DST.new_events_qty"),
    )
)
DELIVERED: Final = (b"DST.R01", b"OBS.R01", b"OBS.R02", b"EVS.R01")
"""The messages from which findings or counts are extracted."""
_EVENT_VALUES: Final = frozenset((b"EVT.number", b"EVT.severity_cd", b"EVT.event_dttm"))
_STATES: Final = {b"R": "idle", b"B": "running", b"L": "stopped"}
"""DST.condition_cd: ready, busy, locked."""
_CONTROL_ROLES: Final = (b"LQC", b"EQC")
"""SVC.role_cd: liquid and electronic quality control."""
_UNUSED_STATUSES: Final = (b"D", b"R")
"""OBS.status_cd: discarded, rejected."""
_ISO_TIME: Final = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(\.\d{1,4})?\d*)?(?:(Z)|([+-]\d\d):?(\d\d))?\Z"
)
_NORMAL_SEVERITIES: Final = (b"", b"N")


class DocumentError(Exception):
    """The document is not well-formed, or has a document type declaration; the text contains none of its bytes."""


@dataclass(slots=True)
class PoctObservation:
    """An OBS element."""

    code: bytes = b""
    value: bytes = b""
    status: bytes = b""


@dataclass(slots=True)
class PoctService:
    """An SVC element: the observations of one patient or control."""

    role: bytes = b""
    time: bytes = b""
    patient: bool = False
    ids: list[bytes] = field(default_factory=list)
    """Name and lot of the control."""
    observations: list[PoctObservation] = field(default_factory=list)


@dataclass(slots=True)
class Poct1Message:
    """The elements of a message that the box reads; `values` has the first of each of `_VALUES`."""

    kind: bytes = b""
    values: dict[bytes, bytes] = field(default_factory=dict)
    directives: set[bytes] = field(default_factory=set)
    """The directives that the instrument supports."""
    services: list[PoctService] = field(default_factory=list)
    events: list[dict[bytes, bytes]] = field(default_factory=list)

    def value(self, name: bytes) -> bytes:
        """Return the value of an element of the header or the status; empty if absent."""
        return self.values.get(name, b"")


def parse_document(data: bytes) -> Poct1Message:
    """Parse a document. Raises: DocumentError."""
    reader = _ElementReader()
    parser = expat.ParserCreate("iso-8859-1")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DocumentError(f"it is not well-formed XML: error {error.code}") from None
    return reader.message


class _ElementReader:
    """Handlers of the XML parser."""

    def __init__(self) -> None:
        self.message = Poct1Message()
        self._depth = self._elements = 0
        self._event: dict[bytes, bytes] | None = None
        self._service: PoctService | None = None
        self._observation: PoctObservation | None = None

    def refuse_doctype(self, *_: object) -> None:
        raise DocumentError("it has a document type declaration")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise DocumentError("its elements are nested too deeply")
        name, value = _bytes(tag), _bytes(attributes.get("V", "")).strip(b" ")
        self._elements += 1
        if self._elements > _ELEMENTS_MAX:
            raise DocumentError("it has too many elements")
        if self._depth == 1:
            self.message.kind = name
        elif name == b"SVC":
            self._service = PoctService()
            self.message.services.append(self._service)
        elif name == b"EVT":
            self._event = {}
            self.message.events.append(self._event)
        elif self._service is not None:
            self._read_service(self._service, name, value)
        elif self._event is not None:
            if name in _EVENT_VALUES:
                self._event.setdefault(name, value)
        elif name == b"DSC.directives_supported_cd":
            self.message.directives.add(value)
        elif name in _VALUES:
            self.message.values.setdefault(name, value)

    def end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "SVC":
            self._service = self._observation = None
        elif tag == "EVT":
            self._event = None
        elif tag == "OBS":
            self._observation = None

    def _read_service(self, service: PoctService, name: bytes, value: bytes) -> None:
        if name == b"OBS":
            self._observation = PoctObservation()
            service.observations.append(self._observation)
        elif name == b"PT" or name.startswith(b"PT."):
            service.patient = True
        elif name == b"SVC.role_cd":
            service.role = value
        elif name == b"SVC.observation_dttm":
            service.time = value
        elif name in (b"CTC.name", b"CTC.lot_number"):
            service.ids.append(value)
        elif self._observation is not None:
            self._read_observation(self._observation, name, value)

    def _read_observation(self, observation: PoctObservation, name: bytes, value: bytes) -> None:
        if name == b"OBS.observation_id":
            observation.code = value
        elif name == b"OBS.value":
            observation.value = value
        elif name == b"OBS.status_cd":
            observation.status = value


def _bytes(text: str) -> bytes:
    """Return the bytes of a text that was parsed as ISO 8859-1; as UTF-8 if a character reference exceeds it."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


class Poct1Extractor:
    """Extracts the findings of messages with the settings of a site."""

    def __init__(self, codes: SiteCodes) -> None:
        self._codes = codes

    def extract(self, message: Poct1Message) -> Extract:
        """Return findings and counts of a message of any kind."""
        extract = Extract()
        if message.kind == b"DST.R01":
            self._add_status(extract, message)
        for service in message.services:
            self._add_service(extract, message, service)
        for event in message.events:
            self._add_event(extract, event)
        return extract

    def _add_status(self, extract: Extract, message: Poct1Message) -> None:
        condition = message.value(b"DST.condition_cd")
        if state := _STATES.get(condition):
            at_ms = self._time_ms(message.value(b"DST.status_dttm"), message.value(b"HDR.creation_dttm"))
            extract.findings.append(Finding(Status, (state, 0, {}), at_ms))
        elif condition:
            extract.counts[Reason.VALUE_UNREADABLE] += 1

    def _add_service(self, extract: Extract, message: Poct1Message, service: PoctService) -> None:
        """Read a service: quality control if message and role mark it and it has no patient, else a patient's."""
        if not service.observations:
            return
        if message.kind != b"OBS.R02" or service.role not in _CONTROL_ROLES or service.patient:
            extract.counts[Reason.PATIENT_RESULTS_DROPPED] += 1
            return
        controls = [control for text in service.ids if (control := self._codes.controls.get(text))]
        if not controls or any(control is not controls[0] for control in controls):
            extract.counts[Reason.CONTROL_UNKNOWN] += 1
            return
        at_ms = self._time_ms(service.time, message.value(b"HDR.creation_dttm"))
        for observation in service.observations:
            self._add_observation(extract, controls[0], observation, at_ms)

    def _add_observation(
        self, extract: Extract, control: Control, observation: PoctObservation, at_ms: int | None
    ) -> None:
        code = observation.code
        if code in self._codes.ignored or observation.status in _UNUSED_STATUSES or not observation.value:
            return
        assay = self._codes.tests.get(code)
        value = parse_decimal(observation.value.decode("latin-1"))
        target = control.targets.get(assay) if assay else None
        deviation = deviation_msd(value, target) if value is not None and target else None
        if assay is None:
            extract.counts[Reason.TEST_UNKNOWN] += 1
        elif target is None:
            extract.counts[Reason.CONTROL_UNKNOWN] += 1
        elif deviation is None:
            extract.counts[Reason.VALUE_UNREADABLE] += 1
        else:
            extract.findings.append(Finding(Quality, (assay, control.level, deviation), at_ms))

    def _add_event(self, extract: Extract, event: dict[bytes, bytes]) -> None:
        """Read an alarm by its number, or else by its severity. Descriptions are not read."""
        number, severity = event.get(b"EVT.number", b""), event.get(b"EVT.severity_cd", b"")
        alarm = self._codes.alarm(b"EVT.number", number) if number else None
        if alarm is None and severity not in _NORMAL_SEVERITIES:
            alarm = self._codes.alarm(b"EVT.severity_cd", severity)
        if alarm is not None:
            at_ms = self._time_ms(event.get(b"EVT.event_dttm", b""))
            extract.findings.append(Finding(Alert, (alarm.code, alarm.component, alarm.severity), at_ms))
        elif number or severity not in _NORMAL_SEVERITIES:
            extract.counts[Reason.ALARM_UNKNOWN] += 1

    def _time_ms(self, *candidates: bytes) -> int | None:
        return self._codes.time_ms(*(compact_time(text) for text in candidates))


def compact_time(text: bytes) -> bytes:
    """Convert an ISO 8601 time to the form of HL7, YYYYMMDDHHMMSS[.S…][±HHMM]; return empty if it is invalid."""
    match = _ISO_TIME.match(text)
    if not match:
        return b""
    *parts, seconds, fraction, utc, hours, minutes = (part or b"" for part in match.groups())
    offset = b"+0000" if utc else hours + minutes
    return b"".join((*parts, seconds or b"00", fraction, offset))
