"""Moves the reports of a box to another shard, while no program of the data center runs.

The box's rows are copied and committed in the new shard, then the main database assigns the box to that shard, and
then the old rows are deleted. After an interruption the same call completes the move: if the box was not yet
assigned, its rows are copied again; otherwise only the old rows are deleted.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, text, update

from datacenter.store.errors import StoreError
from datacenter.store.shards import Shard, ShardedStore
from datacenter.store.tables.partitions import DAY_MS, create_partition
from datacenter.store.tables.schema import (
    box_audit,
    box_audit_problems,
    box_chains,
    boxes,
    chunks,
    coverage,
    evaluated,
    records,
)

REPORTS: Final = (records, chunks, coverage, box_audit, box_audit_problems, box_chains)
"""The tables whose rows of a box are only in the box's shard."""
_OTHERS: Final = text(
    "SELECT pid, usename, application_name FROM pg_stat_activity WHERE datname = current_database()"
    " AND backend_type = 'client backend' AND application_name <> :own ORDER BY pid"
)


class Placed(NamedTuple):
    """The number of boxes that have their reports in a database; `shard` is None for the main database."""

    shard: str | None
    boxes: int


def placed_boxes(store: ShardedStore) -> list[Placed]:
    """Return the number of boxes in each database, in the order of the configuration. Raises: StoreError."""
    query = select(boxes.c.shard, func.count()).group_by(boxes.c.shard)
    counts: dict[str | None, int] = dict(map(tuple, store.read(query)))
    return [Placed(name, counts.get(name, 0)) for name in (None, *store.shards)]


def other_connections(store: ShardedStore, own: str) -> list[str]:
    """Return descriptions of the databases' other connections. Raises: StoreError.

    `own` is the application name of this program's connections.
    """
    names = ("main database", *(f"shard {name}" for name in store.shards))
    return [
        f"{database}: process {pid} of {user or 'unknown'} ({name or 'without a name'})"
        for database, part in zip(names, store.parts, strict=True)
        for pid, user, name in list(part.read(_OTHERS.bindparams(bindparam("own", own))))
    ]


def unknown_boxes(store: ShardedStore, serials: Collection[str]) -> list[str]:
    """Return those of the given boxes that the data center does not know. Raises: StoreError."""
    known = {box for (box,) in store.read(select(boxes.c.serial).where(boxes.c.serial.in_(serials)))}
    return [box for box in serials if box not in known]


def move_box(store: ShardedStore, box: str, to: str) -> int:
    """Move a box's reports to the shard `to`; return the number of rows, 0 if they already were there.

    No other program may use the databases.
    Raises: StoreError; KeyError for a shard that is not configured.
    """
    source, target = store.of(box), store.shards[to]
    count = 0
    if source is not target:
        with target.transaction() as into, source.transaction() as out:
            _delete(into, box)
            count = _copy(store, out, into, box, target)
        with store.transaction() as connection:
            connection.execute(update(boxes).where(boxes.c.serial == box).values(shard=to))
        store.forget(box)
    for part in store.parts:
        if part is not target:
            with part.transaction() as connection:
                _delete(connection, box, is_shard=isinstance(part, Shard))
    return count


def _delete(connection: Connection, box: str, *, is_shard: bool = True) -> None:
    """Delete a box's rows; in a shard also copies of rows of the main database."""
    for table in (*REPORTS, evaluated) if is_shard else REPORTS:
        connection.execute(delete(table).where(table.c.box == box))
    if is_shard:
        connection.execute(delete(boxes).where(boxes.c.serial == box))


def _copy(store: ShardedStore, out: Connection, into: Connection, box: str, target: Shard) -> int:
    """Copy a box's rows; return the number of rows of REPORTS."""
    [enrolled] = store.read(
        select(boxes.c.enrolled_at_ms, boxes.c.dismissed_at_ms).where(boxes.c.serial == box)
    )
    into.execute(insert(boxes).values(serial=box, shard=target.name, **enrolled._asdict()))
    positions = [row._asdict() for row in store.read(select(*evaluated.c).where(evaluated.c.box == box))]
    if positions:
        into.execute(insert(evaluated), positions)
    days = select(records.c.stored_at_ms // DAY_MS).where(records.c.box == box).distinct()
    for day in sorted({int(day) for day in out.scalars(days)}):
        create_partition(into, day)
    return sum(_copy_table(out, into, table, box) for table in REPORTS)


def _copy_table(out: Connection, into: Connection, table: Table, box: str) -> int:
    """Copy the rows of a table as a stream, with constant memory; return their number."""
    columns = ", ".join(column.name for column in table.c)
    reading, writing = _cursor(out), _cursor(into)
    with (
        reading.copy(
            f"COPY (SELECT {columns} FROM {table.name} WHERE box = %s) TO STDOUT (FORMAT BINARY)",  # noqa: S608
            (box,),
        ) as rows,
        writing.copy(f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)") as copied,
    ):
        for block in rows:
            copied.write(block)
    if reading.rowcount != writing.rowcount:
        raise StoreError(f"{box}: {writing.rowcount} of {reading.rowcount} rows of {table.name} were copied")
    return int(writing.rowcount)


def _cursor(connection: Connection) -> Any:
    """Return a cursor of the driver, in the transaction of the connection."""
    return connection.connection.cursor()
