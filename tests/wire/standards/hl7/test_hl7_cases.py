"""Recorded HL7 conversations: whole, at every split point, byte by byte, and with other bytes of patients."""

from __future__ import annotations

import random
import re

import pytest

from tests.support.wire.hl7 import acknowledgements, receiver
from tests.support.wire.instrument_cases import (
    InstrumentCase,
    Played,
    expected_reports,
    instrument_cases,
    play,
)

CASES = instrument_cases("hl7-mllp")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
VARIANTS = 300
VARIANT_BYTES = bytes(byte for byte in range(0x20, 0x100) if byte not in b"|^~\\&@<>\"'")


def result(played: Played) -> tuple[object, ...]:
    return played.findings, played.counts, played.sent


@each_case
def test_reports_counts_and_acknowledgements_are_right(case: InstrumentCase) -> None:
    played = play(receiver(case.port), case.pieces)
    assert played.as_reports() == expected_reports(case)
    assert played.audit() == case.audit
    right = [re.fullmatch(r'ack (\S+) (?:"(.*)"|(\S+)) (\S+)', step) for step in case.script]
    assert acknowledgements(played) == [(ack[1], ack[2] or ack[3], ack[4]) for ack in right if ack]


@each_case
def test_the_result_does_not_depend_on_how_the_bytes_are_split(case: InstrumentCase) -> None:
    whole = result(play(receiver(case.port), [case.data]))
    for split in range(1, len(case.data)):
        assert result(play(receiver(case.port), [case.data[:split], case.data[split:]])) == whole
    assert result(play(receiver(case.port), [bytes([byte]) for byte in case.data])) == whole


@pytest.mark.parametrize("case", [case for case in CASES if case.patient_data], ids=lambda case: case.name)
def test_no_byte_of_a_patient_changes_reports_counts_or_replies(case: InstrumentCase) -> None:
    whole = result(play(receiver(case.port), [case.data]))
    choice = random.Random(case.name)
    for _ in range(VARIANTS):
        variant, position = b"", 0
        for first, end in case.patient_data:
            length = choice.choice([end - first, 0, 1, 200]) if choice.random() < 0.5 else end - first
            variant += case.data[position:first] + bytes(choice.choices(VARIANT_BYTES, k=length))
            position = end
        assert result(play(receiver(case.port), [variant + case.data[position:]])) == whole
