"""Recorded HL7 conversations: in one piece, split at every byte, byte by byte, and with other patient data."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.wire.hl7 import acknowledgements, receiver
from tests.support.wire.instrument_cases import (
    InstrumentCase,
    instrument_cases,
    play,
)
from tests.support.wire.noninterference import variants
from wire.messages import Alert
from wire.standards.er7 import Er7Message
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.hl7.content import READERS
from wire.standards.hl7.site import Hl7Site

CASES = instrument_cases("hl7-mllp")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
WITH_PATIENTS = [case for case in CASES if case.patient_data]
VARIANTS = 300


@each_case
def test_reports_counts_and_acknowledgements_are_those_of_the_case(case: InstrumentCase) -> None:
    played = play(receiver(case.port), case.pieces)
    assert played.as_reports() == case.reports
    assert played.audit() == case.audit
    expected = [re.fullmatch(r'ack (\S+) (?:"(.*)"|(\S+)) (\S+)', step) for step in case.script]
    assert acknowledgements(played) == [(ack[1], ack[2] or ack[3], ack[4]) for ack in expected if ack]


@each_case
def test_the_result_does_not_depend_on_how_the_bytes_are_split(case: InstrumentCase) -> None:
    expected = play(receiver(case.port), [case.data])
    for split in range(1, len(case.data)):
        assert play(receiver(case.port), [case.data[:split], case.data[split:]]) == expected
    assert play(receiver(case.port), [bytes([byte]) for byte in case.data]) == expected


@pytest.mark.parametrize("case", WITH_PATIENTS, ids=lambda case: case.name)
def test_no_byte_of_a_patient_changes_reports_counts_or_replies(case: InstrumentCase) -> None:
    assert not differing(case)


# Planted leaks: with each reader, data that leaves the box depends on a patient, an operator or a note.


def note_length(message: Er7Message, _: Hl7Site) -> Extract:
    notes = [segment for segment in message.segments() if segment.name == b"NTE"]
    return Extract(counts=Counter({Reason.ALARM_UNKNOWN: sum(len(note.raw(3)) for note in notes)}))


def hash_of_a_name(message: Er7Message, _: Hl7Site) -> Extract:
    names = [segment.raw(5) for segment in message.segments() if segment.name == b"PID"]
    digest = hashlib.sha256(b"".join(names)).digest()
    return Extract([Finding(Alert, ("E0001", "software", "info"), int.from_bytes(digest[:4]))])


def prefix_of_a_sample(message: Er7Message, _: Hl7Site) -> Extract:
    ids = [segment.first(2) for segment in message.segments() if segment.name == b"SPM"]
    return Extract(counts=Counter({Reason.CONTROL_UNKNOWN: sum(text.startswith(b"5") for text in ids)}))


def operator_in_ascii(message: Er7Message, _: Hl7Site) -> Extract:
    operators = [segment.raw(32) for segment in message.segments() if segment.name == b"OBR"]
    return Extract(counts=Counter({Reason.VALUE_UNREADABLE: sum(not text.isascii() for text in operators)}))


@pytest.mark.parametrize(
    ("case", "kind", "leak"),
    [
        ("hl7-notification-with-a-name-in-the-note", b"EAN", note_length),
        ("hl7-law-control", b"OUL", hash_of_a_name),
        ("hl7-law-control", b"OUL", prefix_of_a_sample),
        ("hl7-qc-in-groups-with-placeholders", b"ORU", operator_in_ascii),
    ],
)
def test_a_planted_leak_is_found(
    case: str, kind: bytes, leak: Callable[[Er7Message, Hl7Site], Extract], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(READERS, kind, leak)
    assert differing(next(known for known in CASES if known.name == case))


def differing(case: InstrumentCase) -> int:
    """Return the number of variants of the patient data that change reports, counts or replies."""
    expected = play(receiver(case.port), [case.data])
    return sum(play(receiver(case.port), [variant]) != expected for variant in variants(case, VARIANTS))
