"""Other bytes in place of a patient's, an operator's or of free text."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.support.wire.instrument_cases import InstrumentCase

UNDIVIDING = bytes(byte for byte in range(0x20, 0x100) if byte not in b"|^~\\&@<>\"'")
"""Bytes that delimit nothing in any standard."""


def variants(case: InstrumentCase, number: int) -> Iterator[bytes]:
    """What the instrument sends, with random bytes in all ranges of `patient_data`, also of other lengths."""
    choice = random.Random(case.name)
    for _ in range(number):
        variant, position = b"", 0
        for first, end in case.patient_data:
            length = choice.choice((0, 1, 200)) if choice.random() < 0.3 else end - first
            variant += case.data[position:first] + bytes(choice.choices(UNDIVIDING, k=length))
            position = end
        yield variant + case.data[position:]
