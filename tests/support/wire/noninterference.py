"""Variants of instrument data, with other bytes in free text and in all fields about patients and operators."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Final

from tests.support.wire.instrument_cases import InstrumentCase
from wire.standards.lis1.frames import checksum

_FRAME: Final = re.compile(rb"\x02([^\x03\x17]*)([\x03\x17])([0-9A-Fa-f]{2})")
NON_DELIMITERS = bytes(byte for byte in range(0x20, 0x100) if byte not in b"|^~\\&@<>\"'")
"""Bytes that are not delimiters in any of the standards."""


def variants(case: InstrumentCase, number: int) -> Iterator[bytes]:
    """Yield the instrument's data with random bytes in all ranges of `patient_data`, some with another length."""
    choice = random.Random(case.name)
    for _ in range(number):
        variant, position = b"", 0
        for first, end in case.patient_data:
            length = choice.choice((0, 1, 200)) if choice.random() < 0.3 else end - first
            variant += case.data[position:first] + bytes(choice.choices(NON_DELIMITERS, k=length))
            position = end
        yield variant + case.data[position:]


def with_checksums(data: bytes) -> bytes:
    """Return the data with the right checksum in each LIS1-A frame."""
    return _FRAME.sub(lambda frame: b"\x02" + frame[1] + frame[2] + checksum(frame[1], frame[2]), data)
