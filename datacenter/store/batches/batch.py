"""Stores batches: selects new records, makes their rows, and selects the commands of the replies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, groupby
from typing import Any, Final, NamedTuple, TypeAlias

from datacenter.store.batches.coverage import BOX_STREAM, RANGES_MAX, add_new, decode_ranges, encode_ranges
from datacenter.store.batches.rows import RecordRow, make_rows, number_of
from datacenter.store.batches.statements import CommandReport, CoverageRow, Key, Statements, UpdateReport
from datacenter.store.box_audit import store_audit
from datacenter.store.command_states import TRANSITIONS, Event
from datacenter.store.errors import StoreError, UnknownBoxError
from settings.ranges import RangeSet
from wire.audit_events import AuditEvent
from wire.messages import (
    Audit,
    Batch,
    BatchReply,
    Command,
    CommandResult,
    CommandStep,
    Gap,
    Record,
    UpdateStep,
    sequences,
)

REPEAT_MS_MIN: Final = 60_000
"""First interval after which a command without a result is sent again, because the reply may have been lost."""
_EVENTS: Final[dict[str, Event]] = {
    "delivered": "delivered",
    "executing": "executing",
    "done": "done",
    "refused": "failed",
    "failed": "failed",
    "unknown": "failed",
    "withdrawn": "withdrawn",
}
"""The event of each step and outcome that a box reports."""
REPEAT_MS_MAX: Final = 3_600_000
"""Limit of the interval, which doubles each time: commands for an instrument that is off must not fill the link."""


DueCommands: TypeAlias = dict[str, tuple[list[Command], list[int]]]
"""The commands of each box that are due, oldest first, and the numbers of those to withdraw."""


class Received(NamedTuple):
    """A batch, the box that sent it, and the data center's time of its arrival."""

    box: str
    batch: Batch
    at_ms: int


class _Arrived:
    """A batch with the numbers of its records in each life to which it adds."""

    def __init__(self, received: Received) -> None:
        self.own: Key = (received.box, BOX_STREAM, received.batch.epoch)
        self.records: Sequence[Record] = received.batch.records
        self.sequences: list[int] = sequences(received.batch)
        self.lives: defaultdict[Key, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        """By life of an instrument: the positions of its records in the batch, and their numbers."""
        for index, record in enumerate(self.records):
            if (number := number_of(record)) is not None:
                indexes, numbers = self.lives[received.box, record.entry.instrument, record.entry.run]
                indexes.append(index)
                numbers.append(number)

    @property
    def keys(self) -> set[Key]:
        """The lives to which the batch adds."""
        return {self.own, *self.lives}


class _Coverage:
    """The coverage of the lives to which the batches of a transaction add."""

    def __init__(self, rows: Iterable[CoverageRow]) -> None:
        self.stored: defaultdict[Key, RangeSet] = defaultdict(RangeSet)
        self.lost: defaultdict[Key, RangeSet] = defaultdict(RangeSet)
        for box, stream, life, stored, lost in rows:
            self.stored[box, stream, life] = decode_ranges(stored)
            if lost is not None:
                self.lost[box, stream, life] = decode_ranges(lost)

    def take_new(self, arrived: _Arrived) -> list[tuple[int, Record]]:
        """Return the records that are not stored yet, with their sequence numbers, and add them to the coverage.

        A record is new if neither its sequence nor the number that its instrument gave it is stored.
        """
        is_new = add_new(self.stored[arrived.own], arrived.sequences)
        for life, (indexes, numbers) in arrived.lives.items():
            if not all(is_new):
                kept = [
                    (index, number) for index, number in zip(indexes, numbers, strict=True) if is_new[index]
                ]
                indexes, numbers = [index for index, _ in kept], [number for _, number in kept]
            for index, is_unused in zip(indexes, add_new(self.stored[life], numbers), strict=True):
                is_new[index] = is_unused
        new = list(compress(zip(arrived.sequences, arrived.records, strict=True), is_new))
        for _, record in new:
            if isinstance(record.entry.body, Gap):
                for first, last in record.entry.body.ranges:
                    self.lost[arrived.own].add(first, last)
        return new

    def rows(self) -> list[CoverageRow]:
        """Return the rows of `coverage`."""
        return [
            (*key, encode_ranges(ranges), encode_ranges(self.lost[key]) if key in self.lost else None)
            for key, ranges in self.stored.items()
        ]

    def has_room(self, keys: Iterable[Key]) -> bool:
        """Return whether all of these lives have few enough gaps for batches to be stored quickly."""
        return all(len(self.stored[key]) < RANGES_MAX for key in keys)


@dataclass(frozen=True)
class StoredBatches:
    """The result of a transaction with batches, by their indices in `received`."""

    received: Sequence[Received]
    counts: dict[int, int]
    """The number of new records of each batch that was stored."""
    errors: dict[int, UnknownBoxError | StoreError]
    """The errors of the other batches, of which no record was stored."""

    @property
    def accepted(self) -> list[Received]:
        """The batches that were stored."""
        return [self.received[index] for index in self.counts]

    def replies(self, due: DueCommands) -> list[BatchReply | UnknownBoxError | StoreError]:
        """Return for each batch its reply, with the result of `exchange_commands`, or its error."""
        due = dict(due)
        return [
            self.errors.get(index) or BatchReply(self.counts[index], *due.pop(batch.box, ([], [])))
            for index, batch in enumerate(self.received)
        ]


def store_records(statements: Statements, cursor: Any, received: Sequence[Received]) -> StoredBatches:
    """Store the new records of all batches.

    Raises: errors of the driver; then the caller must roll back the transaction.
    """
    known = statements.lock(cursor, {batch.box for batch in received})
    arrived = [_Arrived(batch) for batch in received]
    keys = sorted({key for batch in arrived for key in batch.keys})
    coverage = _Coverage(statements.coverage(cursor, keys))
    rows: list[RecordRow] = []
    counts: dict[int, int] = {}
    errors: dict[int, UnknownBoxError | StoreError] = {}
    for index, (batch, its) in enumerate(zip(received, arrived, strict=True)):
        if batch.box not in known:
            errors[index] = UnknownBoxError(batch.box)
        elif not coverage.has_room(its.keys):
            errors[index] = StoreError(f"{batch.box}: the numbers of its records have too many gaps")
        else:
            store_audit(statements, cursor, batch.box, batch.batch, batch.at_ms)
            new = coverage.take_new(its)
            rows += make_rows(batch.box, batch.batch.epoch, batch.at_ms, new)
            counts[index] = len(new)
    if counts:
        if rows:
            statements.insert(cursor, rows)
        statements.cover(cursor, coverage.rows())
    return StoredBatches(received, counts, errors)


def exchange_commands(statements: Statements, cursor: Any, accepted: Sequence[Received]) -> DueCommands:
    """Apply the reports of stored batches about commands and updates; return the commands that are due.

    A repetition with the same batches has the same result; therefore this may be a later transaction than that of
    `store_records`: a box whose batch was not acknowledged sends it again. Raises: errors of the driver, like
    `store_records`.
    """
    for event, reports in groupby(
        (report for batch in accepted for report in _command_reports(batch)),
        lambda report: _EVENTS[report.outcome],
    ):
        statements.report(cursor, event, list(reports))
    if steps := [report for batch in accepted for report in _update_reports(batch)]:
        statements.update_steps(cursor, steps)
    if started := {batch.box for batch in accepted if any(map(_is_start, batch.batch.records))}:
        statements.repeat(cursor, started)
    return _take_due(statements, cursor, accepted)


def _take_due(statements: Statements, cursor: Any, accepted: Sequence[Received]) -> DueCommands:
    """Return the commands of each box that are due, oldest first, and those to withdraw.

    Schedules the next repetition of each.
    """
    now = {batch.box: batch.at_ms for batch in accepted}
    due: DueCommands = {}
    sent = []
    for row in statements.waiting(cursor, list(now), max(now.values())) if now else ():
        is_expired = row.expires_at_ms is not None and row.expires_at_ms <= now[row.box]
        if is_expired and not row.sent_count:
            continue  # `datacenter.store.store.Store.expire_commands` closes it
        ending = row.ending or ("expired" if is_expired and row.state in TRANSITIONS["expired"] else None)
        again = now[row.box] + repeat_delay_ms(row.sent_count + 1)
        sent.append((row.sent_count + 1, again, ending, row.id))
        commands, withdrawn = due.setdefault(row.box, ([], []))
        if ending and row.state in TRANSITIONS["withdrawn"]:
            withdrawn.append(row.id)
        else:
            commands.append(Command(row.id, row.instrument, row.verb, bytes(row.body)))
    if sent:
        statements.sent(cursor, sent)
    return due


def _command_reports(batch: Received) -> Iterator[CommandReport]:
    """Yield the batch's reports about commands."""
    for record in batch.batch.records:
        body = record.entry.body
        if isinstance(body, (CommandStep, CommandResult)):
            outcome = body.step if isinstance(body, CommandStep) else body.outcome
            yield CommandReport(outcome, batch.at_ms, body.command, batch.box, record.entry.instrument)


def _update_reports(batch: Received) -> Iterator[UpdateReport]:
    """Yield the batch's reports about updates."""
    for record in batch.batch.records:
        if isinstance(record.entry.body, UpdateStep):
            yield UpdateReport(batch.box, batch.at_ms, record.entry.body)


def _is_start(record: Record) -> bool:
    """Return whether the record reports a start of the box program, which forgets its undelivered commands."""
    body = record.entry.body
    return isinstance(body, Audit) and body.event in (AuditEvent.STARTED, AuditEvent.STARTED_AFTER_CRASH)


def repeat_delay_ms(deliveries: int) -> int:
    """Return the interval in ms until a command that was sent `deliveries` times is sent again."""
    return min(REPEAT_MS_MIN << min(deliveries - 1, 16), REPEAT_MS_MAX)
