"""Queries for checkers and dashboards.

Each function executes one query in each database, and decodes blocks into records. Raises: StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import func, select

from datacenter.store.batches.rows import RecordRow, stored_records
from datacenter.store.command_states import State
from datacenter.store.store import Store
from datacenter.store.tables import schema
from wire.messages import Gap, ProfileInForce, Status, decode

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


class FollowedProfile(NamedTuple):
    """A box's record that an instrument's reports follow a profile from this record on.

    `is_known` is False if the data center does not have this version: the reports are stored, but the meaning of new
    words is not known yet.
    """

    box: str
    instrument: str
    model: str
    version: int
    at_ms: int
    is_known: bool


class StoredCommand(NamedTuple):
    """A command and its outcome, which is None until the box reports it."""

    id: int
    box: str
    instrument: str
    verb: str
    created_at_ms: int
    delivered_count: int
    outcome: str | None
    closed_at_ms: int | None
    state: State


def counts(store: Store) -> dict[tuple[str, str], int]:
    """Return the number of records by (box, instrument); for records of the box itself, `instrument` is ""."""
    key = (_RECORDS.box, _RECORDS.instrument)
    query = select(*key, func.sum(_RECORDS.record_count)).group_by(*key)
    rows = sorted(tuple(row) for part in store.parts for row in part.read(query))
    return {(box, instrument): int(count) for box, instrument, count in rows}


def records(store: Store) -> Iterator[StoredRecord]:
    """Return all records, ordered by box, epoch and sequence."""
    return (record for record, _ in bodies(store))


def bodies(store: Store) -> Iterator[tuple[StoredRecord, bytes]]:
    """Yield all records with their bodies, ordered by box, epoch and sequence. One epoch at a time is in memory."""
    columns = [_RECORDS[name] for name in RecordRow._fields]
    query = select(*columns).order_by(*columns[:3])
    rows = merge(*(map(RecordRow._make, part.read(query)) for part in store.parts), key=lambda row: row[:3])
    for _, of_epoch in groupby(rows, lambda row: (row.box, row.epoch)):
        pairs = (pair for row in of_epoch for pair in _records(row))
        yield from sorted(pairs, key=lambda pair: pair[0].sequence)


def _records(row: RecordRow) -> Iterator[tuple[StoredRecord, bytes]]:
    """Yield the records of a row."""
    for sequence, body in stored_records(row.sequence, row.record_count, row.body):
        number, at_ms = row.number, row.at_ms
        if row.record_count > 1:
            report = decode(Status, body)
            number, at_ms = report.number if row.instrument else None, report.at_ms
        identity = row.box, row.epoch, sequence, row.instrument, row.run, number
        yield StoredRecord(*identity, row.kind, at_ms, row.stored_at_ms), body


def epochs(store: Store) -> list[int]:
    """Return the epochs of all records, ordered by the time at which the first record of each was stored."""
    first = func.min(_RECORDS.stored_at_ms)
    query = select(first, _RECORDS.epoch).group_by(_RECORDS.epoch)
    rows = sorted(tuple(row) for part in store.parts for row in part.read(query))
    return list(dict.fromkeys(epoch for _, epoch in rows))


def gaps(store: Store) -> list[StoredGap]:
    """Return all reported gaps, ordered by box, epoch and sequence."""
    key = (_RECORDS.box, _RECORDS.epoch, _RECORDS.sequence)
    query = select(*key, _RECORDS.body).where(_RECORDS.kind == "gap")
    rows = sorted(tuple(row) for part in store.parts for row in part.read(query))
    return [StoredGap(box, epoch, sequence, decode(Gap, body)) for box, epoch, sequence, body in rows]


def profiles(store: Store, known: Mapping[str, int]) -> list[FollowedProfile]:
    """Return the profiles that reports follow, in the order of their records.

    `known` is the newest version of each model's profile that the data center has.
    """
    key = (_RECORDS.box, _RECORDS.epoch, _RECORDS.sequence)
    query = select(*key, _RECORDS.body).where(_RECORDS.kind == "profile")
    rows = sorted(tuple(row) for part in store.parts for row in part.read(query))
    return [_followed(box, decode(ProfileInForce, body), known) for box, _, _, body in rows]


def _followed(box: str, body: ProfileInForce, known: Mapping[str, int]) -> FollowedProfile:
    is_known = 1 <= body.version <= known.get(body.model, 0)
    return FollowedProfile(box, body.instrument, body.model, body.version, body.at_ms, is_known)


def commands(store: Store) -> list[StoredCommand]:
    """Return all commands, ordered by number."""
    columns = [schema.commands.c[name] for name in StoredCommand._fields]
    return [StoredCommand(*row) for row in store.read(select(*columns).order_by(schema.commands.c.id))]
