"""The statements that store batches, for SQLite and for PostgreSQL.

They run for all batches of all boxes, with the driver's cursor and in the transaction of the caller: SQLAlchemy takes
three times as long for the same statements. On PostgreSQL, lists are passed as arrays, so that the text of a
statement and its plan are always the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol, TypeAlias

from datacenter.store.rows import Row
from settings.profile import Verb
from wire.messages import COMMANDS_PER_REPLY_MAX

_WAITING: Final = (
    "SELECT id, box, instrument, verb, body, delivered_count FROM ("
    "SELECT *, row_number() OVER (PARTITION BY box ORDER BY id) AS place FROM commands"
    " WHERE box {} AND outcome IS NULL AND due_at_ms <= {}) AS due WHERE place <= {} ORDER BY id"
)
_ON_CONFLICT: Final = (
    "ON CONFLICT (box, stream, life) DO UPDATE SET stored = excluded.stored, lost = excluded.lost"
)

_DELIVERED: Final = "UPDATE commands SET delivered_count = ?, due_at_ms = ? WHERE id = ?"
_CLOSE: Final = (
    "UPDATE commands SET outcome = ?, closed_at_ms = ?"
    " WHERE id = ? AND box = ? AND instrument = ? AND outcome IS NULL"
)

Key: TypeAlias = tuple[str, str, int]
"""Box, stream and life."""
CoverageRow: TypeAlias = tuple[str, str, int, bytes, bytes | None]
"""Box, stream, life, and the ranges that are stored and lost."""
CommandRow: TypeAlias = tuple[int, str, str, Verb, bytes, int]
"""Number, box, instrument, verb, body, and how often it was delivered."""


class Statements(Protocol):
    """What a transaction that stores batches executes with the driver's cursor."""

    def lock(self, cursor: Any, boxes: Collection[str]) -> set[str]:
        """Return the boxes that may send; until the end of the transaction no other one stores batches of them."""
        ...

    def coverage(self, cursor: Any, keys: Sequence[Key]) -> list[CoverageRow]:
        """Return the rows of `coverage` with these keys, as they are after `lock`."""
        ...

    def insert(self, cursor: Any, rows: Sequence[Row]) -> None:
        """Insert rows of `records`."""
        ...

    def cover(self, cursor: Any, rows: Sequence[CoverageRow]) -> None:
        """Insert or replace rows of `coverage`."""
        ...

    def waiting(self, cursor: Any, boxes: Collection[str], now_ms: int) -> list[CommandRow]:
        """Return the commands that are due, oldest first, of each box not more than fit into a reply."""
        ...

    def delivered(self, cursor: Any, rows: Sequence[tuple[int, int, int]]) -> None:
        """Set the number of deliveries and the next time of commands: (deliveries, due_at_ms, number) of each."""
        ...

    def close(self, cursor: Any, rows: Sequence[tuple[str, int, int, str, str]]) -> None:
        """Close commands: (outcome, closed_at_ms, number, box, instrument) of each."""
        ...


class SqliteStatements:
    """A transaction excludes all other writers, as SQLite has no lock of a row."""

    _INSERT: Final = (
        f"INSERT INTO records ({', '.join(Row._fields)})"  # noqa: S608
        f" VALUES ({', '.join('?' * len(Row._fields))})"
    )

    def lock(self, cursor: Any, boxes: Collection[str]) -> set[str]:
        cursor.execute("BEGIN IMMEDIATE")
        marks = ", ".join("?" * len(boxes))
        cursor.execute(
            f"SELECT serial FROM boxes WHERE serial IN ({marks}) AND dismissed_at_ms IS NULL",  # noqa: S608
            list(boxes),
        )
        return {serial for (serial,) in cursor.fetchall()}

    def coverage(self, cursor: Any, keys: Sequence[Key]) -> list[CoverageRow]:
        marks = ", ".join(["(?, ?, ?)"] * len(keys))
        cursor.execute(
            "SELECT box, stream, life, stored, lost FROM coverage"  # noqa: S608
            f" WHERE (box, stream, life) IN (VALUES {marks})",
            [part for key in keys for part in key],
        )
        return list(cursor.fetchall())

    def insert(self, cursor: Any, rows: Sequence[Row]) -> None:
        cursor.executemany(self._INSERT, rows)

    def cover(self, cursor: Any, rows: Sequence[CoverageRow]) -> None:
        cursor.executemany(f"INSERT INTO coverage VALUES (?, ?, ?, ?, ?) {_ON_CONFLICT}", rows)  # noqa: S608

    def waiting(self, cursor: Any, boxes: Collection[str], now_ms: int) -> list[CommandRow]:
        marks = ", ".join("?" * len(boxes))
        cursor.execute(_WAITING.format(f"IN ({marks})", "?", "?"), [*boxes, now_ms, COMMANDS_PER_REPLY_MAX])
        return list(cursor.fetchall())

    def delivered(self, cursor: Any, rows: Sequence[tuple[int, int, int]]) -> None:
        cursor.executemany(_DELIVERED, rows)

    def close(self, cursor: Any, rows: Sequence[tuple[str, int, int, str, str]]) -> None:
        cursor.executemany(_CLOSE, rows)


class PostgresStatements:
    """A transaction locks the rows of its boxes, in one order, so that two never wait for each other."""

    def lock(self, cursor: Any, boxes: Collection[str]) -> set[str]:
        cursor.execute(
            "SELECT serial FROM boxes WHERE serial = ANY(%s) AND dismissed_at_ms IS NULL"
            " ORDER BY serial FOR NO KEY UPDATE",
            (sorted(boxes),),
        )
        return {serial for (serial,) in cursor.fetchall()}

    def coverage(self, cursor: Any, keys: Sequence[Key]) -> list[CoverageRow]:
        cursor.execute(
            "SELECT box, stream, life, stored, lost FROM coverage"
            " JOIN unnest(%s::text[], %s::text[], %s::bigint[]) AS wanted (box, stream, life)"
            " USING (box, stream, life)",
            tuple(map(list, zip(*keys, strict=True))),
        )
        return list(cursor.fetchall())

    def insert(self, cursor: Any, rows: Sequence[Row]) -> None:
        with cursor.copy(f"COPY records ({', '.join(Row._fields)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def cover(self, cursor: Any, rows: Sequence[CoverageRow]) -> None:
        cursor.execute(
            "INSERT INTO coverage SELECT * FROM"  # noqa: S608
            " unnest(%s::text[], %s::text[], %s::bigint[], %s::bytea[], %s::bytea[])"
            f" {_ON_CONFLICT}",
            tuple(map(list, zip(*rows, strict=True))),
        )

    def waiting(self, cursor: Any, boxes: Collection[str], now_ms: int) -> list[CommandRow]:
        cursor.execute(
            _WAITING.format("= ANY(%s)", "%s", "%s"), (list(boxes), now_ms, COMMANDS_PER_REPLY_MAX)
        )
        return list(cursor.fetchall())

    def delivered(self, cursor: Any, rows: Sequence[tuple[int, int, int]]) -> None:
        cursor.executemany(_DELIVERED.replace("?", "%s"), rows)

    def close(self, cursor: Any, rows: Sequence[tuple[str, int, int, str, str]]) -> None:
        cursor.executemany(_CLOSE.replace("?", "%s"), rows)
