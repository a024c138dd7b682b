"""Queries for checkers and dashboards. Each function is one query. Raises: StoreError."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import func, select

from datacenter.store import schema
from datacenter.store.store import Store
from wire.messages import Gap, decode

_RECORDS = schema.records.c


class StoredRecord(NamedTuple):
    """A record without its body; `number` is None for records of the box itself."""

    box: str
    epoch: int
    sequence: int
    instrument: str
    run: int
    number: int | None
    kind: str
    at_ms: int
    stored_at_ms: int


class StoredGap(NamedTuple):
    """A gap reported by a box, and the identity of the record that reports it."""

    box: str
    epoch: int
    sequence: int
    gap: Gap


class StoredCommand(NamedTuple):
    """A command and its outcome, which is None while the command waits."""

    id: int
    box: str
    instrument: str
    verb: str
    created_at_ms: int
    delivered_count: int
    outcome: str | None
    closed_at_ms: int | None


def counts(store: Store) -> dict[tuple[str, str], int]:
    """Number of records by (box, instrument); for records of the box itself, `instrument` is ""."""
    key = (_RECORDS.box, _RECORDS.instrument)
    rows = store.read(select(*key, func.count()).group_by(*key).order_by(*key))
    return {(box, instrument): count for box, instrument, count in rows}


def records(store: Store) -> Iterator[StoredRecord]:
    """All records, ordered by box, epoch and sequence."""
    columns = [_RECORDS[name] for name in StoredRecord._fields]
    return (StoredRecord(*row) for row in store.read(select(*columns).order_by(*columns[:3])))


def bodies(store: Store) -> Iterator[tuple[StoredRecord, bytes]]:
    """All records with their bodies, ordered by box, epoch and sequence."""
    columns = [_RECORDS[name] for name in StoredRecord._fields]
    every = select(*columns, _RECORDS.body).order_by(*columns[:3])
    return ((StoredRecord(*row[:-1]), bytes(row[-1])) for row in store.read(every))


def epochs(store: Store) -> list[int]:
    """The epochs of all records, ordered by the time at which the first record of each was stored."""
    first = func.min(_RECORDS.stored_at_ms)
    return [
        epoch
        for epoch, _ in store.read(select(_RECORDS.epoch, first).group_by(_RECORDS.epoch).order_by(first))
    ]


def gaps(store: Store) -> list[StoredGap]:
    """All reported gaps, ordered by box, epoch and sequence."""
    key = (_RECORDS.box, _RECORDS.epoch, _RECORDS.sequence)
    rows = store.read(select(*key, _RECORDS.body).where(_RECORDS.kind == "gap").order_by(*key))
    return [StoredGap(box, epoch, sequence, decode(Gap, body)) for box, epoch, sequence, body in rows]


def commands(store: Store) -> list[StoredCommand]:
    """All commands, ordered by number."""
    columns = [schema.commands.c[name] for name in StoredCommand._fields]
    return [StoredCommand(*row) for row in store.read(select(*columns).order_by(schema.commands.c.id))]
