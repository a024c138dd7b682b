"""Batches as boxes send them."""

from __future__ import annotations

from wire.messages import (
    Alert,
    Batch,
    BoxReport,
    CommandResult,
    Entry,
    InstrumentReport,
    Outcome,
    decode,
    encode,
    encode_batch,
)

AT_MS = 1_790_000_000_000


def alert(number: int) -> Alert:
    return Alert(number, AT_MS + number, "T0101", "bath", "warning", 37_900)


def result(number: int, command: int, outcome: Outcome = "done") -> CommandResult:
    return CommandResult(number, AT_MS + number, command, outcome)


def encoded(
    *bodies: InstrumentReport | BoxReport,
    first: int = 1,
    epoch: int = 1,
    instrument: str = "CHEM-0001",
    run: int = 1,
) -> bytes:
    entries = [encode(Entry(instrument, run, body)) for body in bodies]
    return encode_batch(epoch, list(enumerate(entries, first)))


def batch(
    *bodies: InstrumentReport | BoxReport,
    first: int = 1,
    epoch: int = 1,
    instrument: str = "CHEM-0001",
    run: int = 1,
) -> Batch:
    return decode(Batch, encoded(*bodies, first=first, epoch=epoch, instrument=instrument, run=run))
