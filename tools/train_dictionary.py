"""Generates the initial zstd dictionary of all batch streams: `python tools/train_dictionary.py FILE`.

It is raw content: bytes that a batch can refer to as if they had been sent before. It therefore consists of batches,
with reports of a simulated laboratory that has one analyzer of each model. Words that do not occur there are added.
The order is: each word of the vocabulary and each alert; routine reports; single reports, with which a stream most
often starts. References to the end are the shortest.

The output depends only on the sources. A released dictionary is never changed: a new one is a new version.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

from settings.profile import load_profile
from sim.engine.clock import Environment
from sim.engine.streams import stream
from sim.instruments import SimulatedInstrument, load_model
from sim.instruments.operator import Operator
from sim.instruments.trouble import Catalogue
from sim.units import DAY_NS, MILLISECOND_NS, MINUTE_NS
from wire.messages import (
    STATES,
    Alert,
    Audit,
    Calibration,
    CommandResult,
    Entry,
    Gap,
    Inventory,
    Outcome,
    Quality,
    Report,
    Status,
    encode,
    encode_batch,
)

SIZE_MAX: Final = 15 * 1024
"""zstd derives its parameters from the size of dictionary and data; up to 16 KiB in total compress best."""
BACKLOG: Final = 6
"""Number of routine statuses; more would differ only in their numbers."""
START_MS: Final = 1_788_000_000_000
"""A realistic time, because the upper bytes of a report's time do not change for weeks."""
LABORATORY: Final = {
    "CHEM-0001": load_model("chemistry-analyzer"),
    "IMMU-0002": load_model("immunoassay-analyzer"),
    "HEMA-0003": load_model("hematology-analyzer"),
}
AUDIT_EVENTS: Final = (
    "command-for-unknown-instrument",
    "instrument-not-enrolled",
    "reports-refused",
    "reports-too-many",
)


def main() -> None:
    """Write the dictionary to the file named on the command line."""
    Path(sys.argv[1]).write_bytes(dictionary())


def dictionary() -> bytes:
    """Return the dictionary's bytes, at most SIZE_MAX of them."""
    reports = record(3 * DAY_NS, seed=1)
    statuses = of_kind(reports, Status)
    controls = {(e.instrument, e.body.assay): e for e in reports if isinstance(e.body, Quality)}
    quality = [*of_kind(reports, Calibration)[-3:], *controls.values()]
    routine = [*quality, *of_kind(reports, Inventory)[-3:], *statuses[-BACKLOG:]]
    latest = {entry.instrument: entry for entry in statuses}
    singles = [of_kind(reports, Alert)[-1], *latest.values()]
    batches = [[*_rare(), *_alerts(), *routine], *([entry] for entry in singles)]
    content = b"".join(encode_batch(0, numbered(1000, batch)) for batch in batches)
    assert len(content) <= SIZE_MAX, f"{len(content)} bytes; include fewer rare words"
    return content


def record(duration_ns: int, seed: int) -> list[Entry]:
    """Return the reports of the laboratory in that time, from midnight on, with a status every minute."""
    env, entries = Environment(), list[Entry]()
    numbers = {serial: iter(range(1, 1 << 32)) for serial in LABORATORY}

    def emit(serial: str, kind: type[Report], /, *fields: Any) -> None:
        report = kind(next(numbers[serial]), START_MS + env.now // MILLISECOND_NS, *fields)
        entries.append(Entry(serial, 1, report))  # type: ignore[arg-type]  # any kind of report

    for serial, model in LABORATORY.items():
        chance = partial(stream, seed)
        instrument = SimulatedInstrument(model, env, serial, chance(serial), partial(emit, serial), MINUTE_NS)
        Operator(env, instrument, chance(f"{serial} operator"))
    env.run(until=duration_ns)
    return entries


def of_kind(entries: list[Entry], kind: type[Report]) -> list[Entry]:
    """Return the entries whose report is of that kind."""
    return [entry for entry in entries if isinstance(entry.body, kind)]


def numbered(first: int, entries: list[Entry]) -> list[tuple[int, bytes]]:
    """Return the entries encoded, with sequence numbers from `first` on."""
    return [(first + index, encode(entry)) for index, entry in enumerate(entries)]


def _rare() -> Iterator[Entry]:
    """Yield each rare word once."""
    for event in AUDIT_EVENTS:
        yield Entry("", 0, Audit(START_MS, event, 1))
    for reason in ("unused", "unfinished", "corrupt", "disk-full"):
        yield Entry("", 0, Gap(START_MS, reason, 2, ((700, 701),)))
    for serial in LABORATORY:
        for outcome in get_args(Outcome):
            yield Entry(serial, 1, CommandResult(1000, START_MS, 1, outcome))
        for state in STATES:
            yield Entry(serial, 1, Status(1000, START_MS, state, 1, {}))
    channels = sorted(set().union(*(load_profile(model.name).channels for model in LABORATORY.values())))
    yield Entry("CHEM-0001", 1, Status(1000, START_MS, "idle", 1, dict.fromkeys(channels, 0)))


def _alerts() -> Iterator[Entry]:
    """Yield every alert of every model."""
    for serial, model in LABORATORY.items():
        for trouble in Catalogue(model):
            body = Alert(1000, START_MS, trouble.code, trouble.component, trouble.severity, 100)
            yield Entry(serial, 1, body)


if __name__ == "__main__":
    main()
