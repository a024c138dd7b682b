"""Whether bytes of patients, operators, facilities or free text change anything that an engine does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from settings.adapted import AdaptedPort
from tests.support.wire.instrument_cases import InstrumentCase, play
from tests.support.wire.noninterference import NON_DELIMITERS
from tests.support.wire.scripts import play_script, whole
from wire.standards.engine import Engine
from wire.standards.lis1.frames import checksum

_FRAME: Final = re.compile(rb"\x02([^\x03\x17]*)([\x03\x17])([0-9A-Fa-f]{2})")

MakeEngine = Callable[[AdaptedPort], Engine]


def with_checksums(data: bytes) -> bytes:
    """Return the data with the right checksum in each LIS1-A frame."""
    return _FRAME.sub(lambda frame: b"\x02" + frame[1] + frame[2] + checksum(frame[1], frame[2]), data)


def same_length(case: InstrumentCase, random: Random) -> bytes:
    """Return the case with other bytes in all its ranges."""
    data = bytearray(case.data)
    for first, end in case.patient_data:
        data[first:end] = bytes(random.choices(NON_DELIMITERS, k=end - first))
    return bytes(data)


def other_length(case: InstrumentCase, random: Random) -> bytes:
    """Return the case with more or fewer bytes in its ranges, at least one: an empty name is no name."""
    data = case.data
    for first, end in sorted(case.patient_data, reverse=True):
        data = data[:first] + bytes(random.choices(NON_DELIMITERS[1:], k=random.randint(1, 60))) + data[end:]
    return data


def outcome(make: MakeEngine, case: InstrumentCase, data: bytes) -> object:
    """Everything that an engine does when it plays the script: findings, counts, answers and their times."""
    try:
        player = play_script(make(case.port), case, whole, data)
    except Exception as error:
        return repr(error)
    return player.played, player.wrong, player.now


def outcome_at_once(make: MakeEngine, case: InstrumentCase, data: bytes) -> object:
    """Everything that an engine does when all bytes arrive at once."""
    try:
        return play(make(case.port), [data])
    except Exception as error:
        return repr(error)


def differing(make: MakeEngine, case: InstrumentCase, number: int, *, lengths: bool) -> Iterator[bytes]:
    """Yield the variants of a case that an engine treats differently, of `number` and as many of other lengths.

    Columns have fixed widths; `lengths` is only for standards with delimiters.
    """
    random = Random(case.name)
    ways = [(same_length, outcome)] + [(other_length, outcome_at_once)] * lengths
    for vary, observe in ways:
        right = observe(make, case, case.data)
        for _ in range(number):
            data = with_checksums(vary(case, random))
            if observe(make, case, data) != right:
                yield data
