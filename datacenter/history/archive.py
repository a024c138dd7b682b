"""Moves statuses from rows to chunks, and reads both.

The rows of `records` hold recently stored statuses. Later, `archive` moves the statuses into the chunk of their
instrument and day, and deletes their rows; the coverage, which is kept, ensures that each status is stored exactly
once. The day is that of the instrument's clock. Reports that arrive late change only the chunks of their days.

A chunk keeps run, number, time and content of each status, but neither its sequence number nor its time of storage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, delete, insert, select, update

from datacenter.history.changes import mark_changed
from datacenter.history.chunk import chunk_channels, decode_chunk, encode_chunk
from datacenter.history.statuses import Statuses, joined
from datacenter.store.batches.rows import STATUS, stored_statuses
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import boxes, chunks, evaluated, records
from wire.messages import Status

_R: Final = records.c
_C: Final = chunks.c
_COLUMNS: Final = (_R.run, _R.record_count, _R.body)


def archive(store: Store, before_ms: int) -> int:
    """Move the evaluated statuses that were stored before this time to chunks; return their number.

    Each instrument is one transaction, so that after an interruption every status is either in a row or in a chunk.
    Raises: StoreError.
    """
    return sum(
        archive_instrument(store, box, instrument, before_ms) for box, instrument in waiting(store, before_ms)
    )


def waiting(store: Store, before_ms: int) -> list[tuple[str, str]]:
    """Return boxes and instruments with statuses in rows that were stored before this time. Raises: StoreError."""
    is_old = and_(_R.kind == STATUS, _R.stored_at_ms < before_ms)
    pairs = select(_R.box, _R.instrument).where(is_old).distinct()
    return sorted((box, instrument) for part in store.parts for box, instrument in part.read(pairs))


def archive_instrument(store: Store, box: str, instrument: str, before_ms: int) -> int:
    """Do the same as `archive` for one instrument. Raises: StoreError."""
    part = store.of(box)
    with part.transaction() as connection:
        days, count = _archive_instrument(connection, box, instrument, before_ms)
        with store.within(part, connection) as marking:
            mark_changed(marking, box, instrument, days)
        return count


def _archive_instrument(
    connection: Connection, box: str, instrument: str, before_ms: int
) -> tuple[set[int], int]:
    """Move statuses to chunks; return the days of these, and the number of statuses."""
    connection.execute(select(boxes.c.serial).where(boxes.c.serial == box).with_for_update(key_share=True))
    is_evaluated = and_(_R.epoch == evaluated.c.epoch, _R.sequence <= evaluated.c.sequence)
    is_movable = and_(
        _R.box == box,
        _R.instrument == instrument,
        _R.kind == STATUS,
        _R.stored_at_ms < before_ms,
        select(evaluated.c.box).where(evaluated.c.box == box, is_evaluated).exists(),
    )
    by_day: defaultdict[int, list[tuple[int, Status]]] = defaultdict(list)
    for run, status in _statuses(connection.execute(select(*_COLUMNS).where(is_movable))):
        by_day[status.at_ms // DAY_MS].append((run, status))
    for day, statuses in by_day.items():
        _add(connection, box, instrument, day, Statuses.of(statuses))
    connection.execute(delete(records).where(is_movable))
    return set(by_day), sum(map(len, by_day.values()))


def _add(connection: Connection, box: str, instrument: str, day: int, statuses: Statuses) -> None:
    """Add statuses to a chunk; create the chunk if there is none."""
    key = and_(_C.box == box, _C.instrument == instrument, _C.day == day)
    before = connection.scalar(select(_C.body).where(key))
    if before is not None:
        statuses = joined([decode_chunk(before), statuses])
    values = {"statuses": len(statuses), "body": encode_chunk(statuses)}
    if before is not None:
        connection.execute(update(chunks).where(key).values(values))
    else:
        identity = {"box": box, "instrument": instrument, "day": day}
        connection.execute(insert(chunks).values({**identity, **values}))


def history(store: Store, box: str, instrument: str, since_ms: int, until_ms: int) -> Statuses:
    """Return the statuses of an instrument from `since_ms` to `until_ms`, exclusive, by its clock.

    Raises: StoreError.
    """
    with store.of(box).transaction() as connection:
        return read_history(connection, box, instrument, since_ms, until_ms)


def read_history(connection: Connection, box: str, instrument: str, since_ms: int, until_ms: int) -> Statuses:
    """Do the same as `history` in a transaction of the store with the box's reports. Raises: SQLAlchemyError."""
    recent = connection.execute(_recent(box, instrument, since_ms, until_ms))
    # rows first: a status that is archived between the two queries is then found twice instead of not at all
    rows = Statuses.of(list(_statuses(recent)))
    bodies = connection.execute(_bodies(box, instrument, since_ms, until_ms)).scalars()
    statuses = joined([*(decode_chunk(body) for body in bodies), rows])
    return statuses.chosen((statuses.at_ms >= since_ms) & (statuses.at_ms < until_ms))


def reading_names(store: Store, box: str, instrument: str, since_ms: int, until_ms: int) -> list[str]:
    """Return the channels with readings in the days of a period, sorted. Raises: StoreError."""
    names: set[str] = set()
    part = store.of(box)
    for _, status in _statuses(part.read(_recent(box, instrument, since_ms, until_ms))):
        names.update(status.readings)
    for (body,) in part.read(_bodies(box, instrument, since_ms, until_ms)):
        names.update(chunk_channels(body))
    return sorted(names)


def _recent(box: str, instrument: str, since_ms: int, until_ms: int) -> Select[Any]:
    """Return the query of _COLUMNS of the rows with statuses in a period; it may return further rows."""
    return select(*_COLUMNS).where(
        _R.box == box,
        _R.instrument == instrument,
        _R.kind == STATUS,
        _R.at_ms >= since_ms,
        _R.since_ms < until_ms,
    )


def _bodies(box: str, instrument: str, since_ms: int, until_ms: int) -> Select[Any]:
    """Return the query of the chunks of the days of a period."""
    of_days = and_(_C.day >= since_ms // DAY_MS, _C.day <= (until_ms - 1) // DAY_MS)
    query = select(_C.body).where(_C.box == box, _C.instrument == instrument, of_days)
    return query.order_by(_C.day)


def _statuses(rows: Iterable[Any]) -> Iterator[tuple[int, Status]]:
    """Yield the statuses of rows of _COLUMNS, with their runs."""
    for run, record_count, body in rows:
        for status in stored_statuses(record_count, body):
            yield run, status
