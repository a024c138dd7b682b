"""Reads the data center's database and the box's disk into the ledger at the end of a lab.

The content of each report is read from the database or from the records on the disk, so that the ledger's digest
detects a store or a box that alters a report.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple, get_args

from agents import spool
from datacenter.store import queries
from datacenter.store.queries import StoredRecord
from datacenter.store.store import Store
from sim.units import MILLISECOND_NS
from sim.verdict import result
from sim.verdict.ledger import NEVER, ReportLedger, digest_of
from sim.verdict.outcome import CommandOutcome
from sim.verdict.result import AuditNote
from wire.messages import (
    Alert,
    Audit,
    BoxReport,
    Entry,
    Gap,
    InstrumentReport,
    Message,
    MessageError,
    decode,
    encode,
)

_KINDS: Final[dict[str, type[Message]]] = {"alert": Alert, "audit": Audit, "gap": Gap}
_REPORTS: Final = {str(kind.__struct_config__.tag): kind for kind in get_args(InstrumentReport)}
_EPOCH_BITS: Final = 53
"""The width of a sequence number in bits; higher bits hold the rank of the epoch."""
_SHOWN_MAX: Final = 1000


class SpoolContent(NamedTuple):
    """The content of a box's spool after the final power cut."""

    epoch: int
    records: list[spool.Record]
    """The records that the data center has not acknowledged."""
    gaps: tuple[spool.SpoolGap, ...]
    """The gaps that the spool has detected and not yet reported."""


@dataclass(slots=True)
class Findings:
    """The data found that is not part of the ledger."""

    sequences: list[int] = field(default_factory=list)
    """The sequence numbers of all records, sorted; those of later epochs are above those of earlier ones."""
    gaps: list[result.GapFound] = field(default_factory=list)
    false_gaps: list[str] = field(default_factory=list)
    """Descriptions of records that arrived after a gap record had named them as lost."""
    notes: list[AuditNote] = field(default_factory=list)
    own_waiting: list[int] = field(default_factory=list)
    """The times of the box's own records still on its disk, in nanoseconds of lab time."""
    commands: list[CommandOutcome] = field(default_factory=list)


def find(store: Store, on_disk: SpoolContent, ledger: ReportLedger, epoch_ms: int, end_ns: int) -> Findings:
    """Read the database and the disk, and enter each report in the ledger.

    `epoch_ms` is the start of the lab in milliseconds since 1970, `end_ns` its end in nanoseconds of lab time.
    """
    return _Reader(store, ledger, epoch_ms, end_ns).read(on_disk)


class _Reader:
    def __init__(self, store: Store, ledger: ReportLedger, epoch_ms: int, end_ns: int) -> None:
        self._store, self._ledger, self._epoch_ms, self._end_ns = store, ledger, epoch_ms, end_ns
        self._findings = Findings()
        self._arrivals: list[tuple[int, float]] = []  # (sequence, when it was stored; inf on the disk)
        # (range of a gap record, when it was stored)
        self._named_ranges: list[tuple[tuple[int, int], float]] = []
        self._epochs: Mapping[int, int] = {}

    def read(self, on_disk: SpoolContent) -> Findings:
        epochs = queries.epochs(self._store)
        self._epochs = {epoch: rank << _EPOCH_BITS for rank, epoch in enumerate(epochs)}
        self._epochs = {on_disk.epoch: len(epochs) << _EPOCH_BITS} | self._epochs
        for record, body in queries.bodies(self._store):
            self._read_stored(record, body)
        for sequence, payload in on_disk.records:
            self._read_waiting(self._epochs[on_disk.epoch] + sequence, payload)
        for gap in on_disk.gaps:
            self._add_gap(gap.ranges, gap.reason, gap.records, self._end_ns, self._epochs[on_disk.epoch])
        findings = self._findings
        findings.commands = [self._command_outcome(command) for command in queries.commands(self._store)]
        findings.notes.sort(key=lambda note: note.at_ns)
        self._arrivals.sort()
        findings.sequences = [sequence for sequence, _ in self._arrivals]
        findings.false_gaps = self._false_gaps()
        return findings

    def _ns(self, at_ms: int) -> int:
        return (at_ms - self._epoch_ms) * MILLISECOND_NS

    def _read_stored(self, record: StoredRecord, body: bytes) -> None:
        sequence, stored_ns = self._epochs[record.epoch] + record.sequence, self._ns(record.stored_at_ms)
        self._arrivals.append((sequence, stored_ns))
        if record.instrument in self._ledger.adapted and record.kind in _REPORTS:
            report = decode(_REPORTS[record.kind], body)
            self._ledger.found_adapted(record.instrument, record.run, report, sequence, stored_ns)
        elif record.number is not None:
            digest = digest_of(record.kind, record.at_ms, body)
            self._ledger.found(record.instrument, record.run, record.number, sequence, stored_ns, digest)
        if record.kind in _KINDS:
            self._read_note(record, body, stored_ns)

    def _read_note(self, record: StoredRecord, body: bytes, stored_ns: int) -> None:
        try:
            message = decode(_KINDS[record.kind], body)
        except MessageError as error:
            self._ledger.unexpected.append(
                f"sequence {record.sequence} at the data center cannot be read: {error}"
            )
            return
        if isinstance(message, Gap):
            base = self._epochs[record.epoch]
            self._add_gap(message.ranges, message.reason, message.records, self._ns(message.at_ms), base)
            self._named_ranges += [((base + a, base + b), stored_ns) for a, b in message.ranges]
        priority: result.Priority = "alert" if record.kind == "alert" else "audit"
        source = record.instrument or "box"
        self._findings.notes.append(
            AuditNote(at_ns=self._ns(record.at_ms), priority=priority, source=source, text=_describe(message))
        )

    def _read_waiting(self, sequence: int, payload: bytes) -> None:
        self._arrivals.append((sequence, inf))
        try:
            entry = decode(Entry, payload)
        except MessageError as error:
            self._ledger.unexpected.append(f"sequence {sequence} on the box's disk cannot be read: {error}")
            return
        body = entry.body
        if isinstance(body, BoxReport):
            self._findings.own_waiting.append(self._ns(body.at_ms))
            if isinstance(body, Gap):
                base = sequence >> _EPOCH_BITS << _EPOCH_BITS
                self._add_gap(body.ranges, body.reason, body.records, self._ns(body.at_ms), base)
        elif entry.instrument in self._ledger.adapted:
            self._ledger.found_adapted(entry.instrument, entry.run, body, sequence)
        else:
            kind = str(type(body).__struct_config__.tag)
            digest = digest_of(kind, body.at_ms, encode(body))
            self._ledger.found(entry.instrument, entry.run, body.number, sequence, NEVER, digest)

    def _add_gap(
        self, ranges: tuple[tuple[int, int], ...], reason: str, records: int, at_ns: int, base: int
    ) -> None:
        shifted = tuple((base + first, base + last) for first, last in ranges)
        self._findings.gaps.append(
            result.GapFound(at_ns=at_ns, reason=reason, records=records, ranges=shifted)
        )

    def _false_gaps(self) -> list[str]:
        """Return descriptions of records that arrived after a gap record had named them as lost."""
        sequences = self._findings.sequences
        descriptions = []
        for (first, last), named_ns in self._named_ranges:
            for index in range(bisect_left(sequences, first), bisect_right(sequences, last)):
                if self._arrivals[index][1] > named_ns:
                    descriptions.append(
                        f"sequence {sequences[index]} arrived, which a gap record had named as lost"
                    )
        return descriptions[:_SHOWN_MAX]

    def _command_outcome(self, command: queries.StoredCommand) -> CommandOutcome:
        closed_ns = NEVER if command.closed_at_ms is None else self._ns(command.closed_at_ms)
        text = f"{command.verb} for {command.instrument or 'the box'}: {command.state}"
        created_ns = self._ns(command.created_at_ms)
        return CommandOutcome(text, created_ns, closed_ns, command.state, command.id)


def _describe(message: Message) -> str:
    match message:
        case Alert():
            value = "" if message.value is None else f", {message.value}"
            return f"{message.severity}: {message.code} {message.component}{value}"
        case Audit():
            port = f", port {message.port}" if message.port else ""
            return message.event + port + (f", {message.value}" if message.value else "")
        case Gap():
            return f"gap: {message.records} records, {message.reason}"
    raise AssertionError(message)
