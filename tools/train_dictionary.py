"""Make the zstd dictionary that every stream of batches starts with: `python tools/train_dictionary.py FILE`.

It is raw content, not statistics: bytes that a batch may refer back to as if it had been sent already. So it is
made of batches. Each word of the vocabulary and each kind of report occurs in it, the rare ones first; what a
stream most often starts with, routine status and an alert, comes last, where a reference to it is shortest.

The same sources give the same bytes. A dictionary that has shipped is never changed: a new one is a new version.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

from wire.messages import (
    Alert,
    Audit,
    BoxReport,
    Calibration,
    CommandResult,
    Entry,
    Gap,
    InstrumentReport,
    Inventory,
    Quality,
    Status,
    encode,
    encode_batch,
)
from wire.vocabulary import Assay, Channel, Component, Outcome, Severity, State

SIZE_MAX: Final = 16 * 1024
EPOCH_MS: Final = 1_788_000_000_000
"""A time in the years of use: a report's upper bytes of time are the same for months."""

READINGS: Final[dict[str, dict[Channel, tuple[int, int]]]] = {
    "CHEM-0001": {
        "reaction-temp-mc": (37_000, 60),
        "reagent-temp-mc": (8_000, 150),
        "bath-temp-mc": (37_000, 80),
        "ambient-temp-mc": (22_500, 900),
        "lamp-intensity-pct": (91, 3),
        "lamp-h": (640, 80),
        "wash-pressure-pa": (150_000, 1200),
        "water-conductivity-ns": (520, 60),
        "waste-pct": (40, 25),
        "tests-n": (12_000, 3000),
    },
    "IMMU-0001": {
        "incubator-temp-mc": (37_000, 60),
        "substrate-temp-mc": (25_000, 200),
        "reagent-temp-mc": (8_000, 150),
        "ambient-temp-mc": (22_500, 900),
        "luminometer-dark-n": (120, 15),
        "wash-pressure-pa": (120_000, 1000),
        "vacuum-pa": (60_000, 800),
        "waste-pct": (40, 25),
        "tests-n": (9_000, 2500),
    },
    "HEMA-0001": {
        "ambient-temp-mc": (22_500, 900),
        "sheath-pressure-pa": (35_000, 400),
        "flow-aperture-pa": (18_000, 300),
        "vacuum-pa": (60_000, 800),
        "laser-current-ua": (41_000, 500),
        "hemoglobin-lamp-h": (700, 90),
        "waste-pct": (40, 25),
        "cycles-n": (20_000, 4000),
        "samples-n": (15_000, 4000),
    },
}
ASSAYS: Final[dict[str, tuple[Assay, ...]]] = {
    "CHEM-0001": ("glu", "na", "k", "crea", "urea", "alt", "ast", "alb", "chol", "trig", "crp", "wash"),
    "IMMU-0001": ("tsh", "ft4", "tni", "ferr", "psa", "vitb12", "vitd", "substrate", "wash"),
    "HEMA-0001": ("wbc", "rbc", "hgb", "plt", "retic", "diluent", "lyse", "sheath", "stain"),
}
AUDIT_EVENTS: Final = (
    "box-started",
    "power-lost",
    "uplink-down",
    "uplink-up",
    "port-down",
    "port-up",
    "clock-stepped",
    "instrument-refused",
    "session-authorized",
    "session-opened",
    "session-closed",
)


def main() -> None:
    """Write the dictionary to the file named on the command line."""
    Path(sys.argv[1]).write_bytes(dictionary())


def dictionary() -> bytes:
    """The dictionary's bytes, at most SIZE_MAX of them: the end of what follows."""
    chance = random.Random(1)
    rare, routine = list(_rare(chance)), list(_routine(chance))
    batches = [encode_batch(0, _numbered(1, rare)), *_batches(routine)]
    return b"".join(batches)[-SIZE_MAX:]


def _numbered(first: int, entries: list[Entry]) -> list[tuple[int, bytes]]:
    return [(first + index, encode(entry)) for index, entry in enumerate(entries)]


def _batches(routine: list[Entry]) -> Iterator[bytes]:
    """A backlog, then single reports: both ways in which a connection starts."""
    *backlog, chemistry, immunoassay, hematology, alert = routine
    yield encode_batch(0, _numbered(100, backlog))
    for offset, entry in enumerate((alert, hematology, immunoassay, chemistry, alert)):
        yield encode_batch(0, _numbered(1000 + offset, [entry]))


def _rare(chance: random.Random) -> Iterator[Entry]:
    """Each word and each kind, once or a few times."""
    times = iter(range(EPOCH_MS, EPOCH_MS + 10**9, 977_123))
    said: list[BoxReport] = [Audit(next(times), event, chance.randint(0, 4)) for event in AUDIT_EVENTS]
    said += [
        Gap(next(times), "disk-full", 128, ((1, 128),)),
        Gap(next(times), "corrupt", 2, ((700, 701),)),
    ]
    for word in said:
        yield Entry("", 0, word)
    unused = set(get_args(Channel)).difference(*READINGS.values())
    for serial, assays in ASSAYS.items():
        for body in _seldom(chance, assays, times):
            yield Entry(serial, 1, body)
    yield Entry("HEMA-0001", 1, Status(7, next(times), "stopped", 3, dict.fromkeys(sorted(unused), 0)))


def _seldom(
    chance: random.Random, assays: tuple[Assay, ...], times: Iterator[int]
) -> Iterator[InstrumentReport]:
    numbers = iter(range(200, 100_000))
    for outcome in get_args(Outcome):
        yield CommandResult(next(numbers), next(times), chance.randint(1, 90), outcome)
    for index, component in enumerate(get_args(Component)):
        severity = get_args(Severity)[index % 4]
        code = f"{component[0].upper()}{100 + 7 * index:04}"
        yield Alert(next(numbers), next(times), code, component, severity, chance.randint(100, 60_000))
    for state in get_args(State):
        yield Status(next(numbers), next(times), state, chance.randint(1, 500), {})
    for assay in assays:
        drift = chance.randint(-20_000, 20_000)
        yield Calibration(next(numbers), next(times), assay, 1_000_000 + drift, drift // 3, True)


def _routine(chance: random.Random) -> Iterator[Entry]:
    """What a day mostly consists of; the last four are a status of each model and an alert."""
    now = EPOCH_MS + 2 * 10**9
    for number in range(2, 12):
        for serial in READINGS:
            now += chance.randint(5_000, 20_000)
            if number % 5 == 0:
                tests = {assay: chance.randint(10, 400) for assay in ASSAYS[serial]}
                yield Entry(serial, 1, Inventory(number * 31, now, tests))
            if number % 3 == 0:
                assay = chance.choice(ASSAYS[serial])
                yield Entry(serial, 1, Quality(number * 31 + 1, now, assay, 2, chance.randint(-2500, 2500)))
            yield Entry(serial, 1, _status(chance, serial, number * 31 + 2, now))
    for serial in READINGS:
        yield Entry(serial, 1, _status(chance, serial, 700, now))
    yield Entry("CHEM-0001", 1, Alert(701, now + 900, "T0101", "bath", "warning", 37_912))


def _status(chance: random.Random, serial: str, number: int, at_ms: int) -> Status:
    readings = {
        channel: round(chance.gauss(centre, width / 2))
        for channel, (centre, width) in READINGS[serial].items()
    }
    return Status(number, at_ms, "running", chance.randint(10, 900), readings)


if __name__ == "__main__":
    main()
