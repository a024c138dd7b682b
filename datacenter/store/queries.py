"""What checkers and dashboards ask of the store. Each function is one query; errors: StoreError."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import func, select

from datacenter.store import schema
from datacenter.store.store import Store
from wire.messages import Gap, decode

_RECORDS = schema.records.c


class StoredRecord(NamedTuple):
    """A record without its body; `number` is None for the box's own."""

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
    """What a box said it lost, and the record in which it said so."""

    box: str
    epoch: int
    sequence: int
    gap: Gap


class StoredCommand(NamedTuple):
    """A command and what became of it; `outcome` is None while it waits."""

    id: int
    box: str
    instrument: str
    verb: str
    created_at_ms: int
    delivered_count: int
    outcome: str | None
    closed_at_ms: int | None


def counts(store: Store) -> dict[tuple[str, str], int]:
    """How many records there are of each (box, instrument); the box's own have an empty instrument."""
    key = (_RECORDS.box, _RECORDS.instrument)
    rows = store.read(select(*key, func.count()).group_by(*key).order_by(*key))
    return {(box, instrument): count for box, instrument, count in rows}


def records(store: Store) -> Iterator[StoredRecord]:
    """All records by box, epoch and sequence."""
    columns = [_RECORDS[name] for name in StoredRecord._fields]
    return (StoredRecord(*row) for row in store.read(select(*columns).order_by(*columns[:3])))


def bodies(store: Store) -> Iterator[tuple[StoredRecord, bytes]]:
    """All records with their bodies, by box, epoch and sequence."""
    columns = [_RECORDS[name] for name in StoredRecord._fields]
    every = select(*columns, _RECORDS.body).order_by(*columns[:3])
    return ((StoredRecord(*row[:-1]), bytes(row[-1])) for row in store.read(every))


def epochs(store: Store) -> list[int]:
    """The epochs of all records, in the order in which the first record of each was stored."""
    first = func.min(_RECORDS.stored_at_ms)
    return [
        epoch
        for epoch, _ in store.read(select(_RECORDS.epoch, first).group_by(_RECORDS.epoch).order_by(first))
    ]


def gaps(store: Store) -> list[StoredGap]:
    """What boxes said they lost, by box, epoch and sequence."""
    key = (_RECORDS.box, _RECORDS.epoch, _RECORDS.sequence)
    rows = store.read(select(*key, _RECORDS.body).where(_RECORDS.kind == "gap").order_by(*key))
    return [StoredGap(box, epoch, sequence, decode(Gap, body)) for box, epoch, sequence, body in rows]


def commands(store: Store) -> list[StoredCommand]:
    """All commands by rising number."""
    columns = [schema.commands.c[name] for name in StoredCommand._fields]
    return [StoredCommand(*row) for row in store.read(select(*columns).order_by(schema.commands.c.id))]
