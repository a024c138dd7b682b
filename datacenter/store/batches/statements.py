"""The statements that store batches, for SQLite and for PostgreSQL.

They run for every batch, with the driver's cursor and in the transaction of the caller: SQLAlchemy takes three times
as long for the same statements. On PostgreSQL, lists are passed as arrays: the text of a statement and its plan are
always the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from datacenter.store.batches.rows import RecordRow
from datacenter.store.box_audit import Database
from datacenter.store.command_states import SENT, TRANSITIONS, WITHDRAWABLE, Event, State, quoted
from datacenter.store.update_steps import LAST_RANK_MIN, RANKS
from settings.profile import Verb
from wire.messages import COMMANDS_PER_REPLY_MAX, UpdateStep

_WAITING: Final = (
    "SELECT id, box, instrument, verb, body, delivered_count, state, ending, expires_at_ms FROM ("  # noqa: S608
    "SELECT *, row_number() OVER (PARTITION BY box ORDER BY id) AS position FROM commands"
    f" WHERE box {{}} AND state IN ({quoted(SENT)}) AND"
    f" (due_at_ms <= {{}} OR (ending IS NULL AND expires_at_ms <= {{}} AND state IN ({quoted(WITHDRAWABLE)}))))"
    " AS due WHERE position <= {} ORDER BY id"
)
_ON_CONFLICT: Final = (
    "ON CONFLICT (box, stream, life) DO UPDATE SET stored = excluded.stored, lost = excluded.lost"
)

_SENT: Final = "UPDATE commands SET delivered_count = ?, due_at_ms = ?, ending = ? WHERE id = ?"
_OF_SENDER: Final = " WHERE id = ? AND box = ? AND (instrument = ? OR ? = '') AND state IN ({})"
_TIMES: Final[dict[Event, str]] = {"delivered": "delivered_at_ms", "executing": "executing_at_ms"}
_STEP: Final[dict[Event, str]] = {
    event: f"UPDATE commands SET state = '{event}', {column} = ?"  # noqa: S608
    + _OF_SENDER.format(quoted(TRANSITIONS[event]))
    for event, column in _TIMES.items()
}
_IS_AWAITED: Final = (
    "verb = 'data-upload' AND NOT EXISTS (SELECT 1 FROM files WHERE files.sha256 = commands.file)"
)
"""Whether a file is missing: an upload is done once its file is complete (`datacenter.commands.files`)."""
_CLOSED: Final[dict[Event, str]] = {
    "done": f"CASE WHEN {_IS_AWAITED} THEN 'executing' ELSE 'done' END",
    "failed": "'failed'",
    "withdrawn": "coalesce(ending, 'withdrawn')",
}
_CLOSE: Final[dict[Event, str]] = {
    event: f"UPDATE commands SET state = {state}, outcome = ?, closed_at_ms = ?"  # noqa: S608
    + _OF_SENDER.format(quoted(TRANSITIONS[event]))
    for event, state in _CLOSED.items()
}
_REPEAT: Final = f"UPDATE commands SET due_at_ms = 0 WHERE box = ? AND state IN ({quoted(SENT)})"  # noqa: S608
_UPDATE_STEP: Final = (
    "UPDATE update_orders SET step = ?, rank = ?, reason = ?, step_at_ms = ?,"  # noqa: S608
    f" ended_at_ms = CASE WHEN ? >= {LAST_RANK_MIN} THEN coalesce(ended_at_ms, ?) ELSE ended_at_ms END"
    " WHERE id = ? AND box = ? AND release = ? AND ordered_at_ms IS NOT NULL AND rank < ?"
)
"""Applied in any order and repeatedly, the steps of an order result in the same row, except for the times."""

Key: TypeAlias = tuple[str, str, int]
"""Box, stream and life."""
CoverageRow: TypeAlias = tuple[str, str, int, bytes, bytes | None]
"""Box, stream, life, and the ranges that are stored and lost."""


class DueCommand(NamedTuple):
    """A command that is due."""

    id: int
    box: str
    instrument: str
    verb: Verb
    body: bytes
    sent_count: int
    state: State
    ending: str | None
    expires_at_ms: int | None


class CommandReport(NamedTuple):
    """A box's report about a command; `instrument` is empty if the box itself executes it."""

    outcome: str
    at_ms: int
    id: int
    box: str
    instrument: str


class UpdateReport(NamedTuple):
    """A step of an update that a box reports."""

    box: str
    at_ms: int
    step: UpdateStep


class Statements(Database, Protocol):
    """The statements of a transaction that stores batches, for the driver's cursor."""

    def lock(self, cursor: Any, boxes: Collection[str]) -> set[str]:
        """Return the boxes that may send; no other transaction stores their batches before this one ends."""
        ...

    def coverage(self, cursor: Any, keys: Sequence[Key]) -> list[CoverageRow]:
        """Return the rows of `coverage` with these keys, as they are after `lock`."""
        ...

    def insert(self, cursor: Any, rows: Sequence[RecordRow]) -> None:
        """Insert rows of `records`."""
        ...

    def cover(self, cursor: Any, rows: Sequence[CoverageRow]) -> None:
        """Insert or replace rows of `coverage`."""
        ...

    def waiting(self, cursor: Any, boxes: Collection[str], now_ms: int) -> list[DueCommand]:
        """Return the commands that are due, oldest first; for each box at most as many as fit into a reply."""
        ...

    def sent(self, cursor: Any, rows: Sequence[tuple[int, int, str | None, int]]) -> None:
        """Record that commands are sent: deliveries, next time in ms, requested end and number of each."""
        ...

    def report(self, cursor: Any, event: Event, reports: Sequence[CommandReport]) -> None:
        """Apply an event to the commands of reports."""
        ...

    def update_steps(self, cursor: Any, reports: Sequence[UpdateReport]) -> None:
        """Apply the steps of updates to their orders."""
        ...

    def repeat(self, cursor: Any, boxes: Collection[str]) -> None:
        """Make all open commands of boxes due, because they may have forgotten them."""
        ...


class SqliteStatements:
    """A transaction excludes all other writers, because SQLite has no row locks."""

    def select(self, cursor: Any, statement: str, values: Sequence[Any]) -> list[Any]:
        cursor.execute(statement, values)
        return list(cursor.fetchall())

    def change(self, cursor: Any, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        cursor.executemany(statement, rows)

    _INSERT: Final = (
        f"INSERT INTO records ({', '.join(RecordRow._fields)})"  # noqa: S608
        f" VALUES ({', '.join('?' * len(RecordRow._fields))})"
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

    def insert(self, cursor: Any, rows: Sequence[RecordRow]) -> None:
        cursor.executemany(self._INSERT, rows)

    def cover(self, cursor: Any, rows: Sequence[CoverageRow]) -> None:
        cursor.executemany(f"INSERT INTO coverage VALUES (?, ?, ?, ?, ?) {_ON_CONFLICT}", rows)  # noqa: S608

    def waiting(self, cursor: Any, boxes: Collection[str], now_ms: int) -> list[DueCommand]:
        marks = ", ".join("?" * len(boxes))
        cursor.execute(
            _WAITING.format(f"IN ({marks})", "?", "?", "?"), [*boxes, now_ms, now_ms, COMMANDS_PER_REPLY_MAX]
        )
        return [DueCommand(*row) for row in cursor.fetchall()]

    def sent(self, cursor: Any, rows: Sequence[tuple[int, int, str | None, int]]) -> None:
        cursor.executemany(_SENT, rows)

    def report(self, cursor: Any, event: Event, reports: Sequence[CommandReport]) -> None:
        cursor.executemany(*_report(event, reports))

    def update_steps(self, cursor: Any, reports: Sequence[UpdateReport]) -> None:
        cursor.executemany(_UPDATE_STEP, _step_values(reports))

    def repeat(self, cursor: Any, boxes: Collection[str]) -> None:
        cursor.executemany(_REPEAT, [(box,) for box in boxes])


class PostgresStatements:
    """A transaction locks the rows of its boxes in a fixed order, which prevents deadlocks."""

    def select(self, cursor: Any, statement: str, values: Sequence[Any]) -> list[Any]:
        cursor.execute(statement.replace("?", "%s"), values)
        return list(cursor.fetchall())

    def change(self, cursor: Any, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        cursor.executemany(statement.replace("?", "%s"), rows)

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

    def insert(self, cursor: Any, rows: Sequence[RecordRow]) -> None:
        with cursor.copy(f"COPY records ({', '.join(RecordRow._fields)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def cover(self, cursor: Any, rows: Sequence[CoverageRow]) -> None:
        cursor.execute(
            "INSERT INTO coverage SELECT * FROM"  # noqa: S608
            " unnest(%s::text[], %s::text[], %s::bigint[], %s::bytea[], %s::bytea[])"
            f" {_ON_CONFLICT}",
            tuple(map(list, zip(*rows, strict=True))),
        )

    def waiting(self, cursor: Any, boxes: Collection[str], now_ms: int) -> list[DueCommand]:
        cursor.execute(
            _WAITING.format("= ANY(%s)", "%s", "%s", "%s"),
            (list(boxes), now_ms, now_ms, COMMANDS_PER_REPLY_MAX),
        )
        return [DueCommand(*row) for row in cursor.fetchall()]

    def sent(self, cursor: Any, rows: Sequence[tuple[int, int, str | None, int]]) -> None:
        cursor.executemany(_SENT.replace("?", "%s"), rows)

    def report(self, cursor: Any, event: Event, reports: Sequence[CommandReport]) -> None:
        statement, values = _report(event, reports)
        cursor.executemany(statement.replace("?", "%s"), values)

    def update_steps(self, cursor: Any, reports: Sequence[UpdateReport]) -> None:
        cursor.executemany(_UPDATE_STEP.replace("?", "%s"), _step_values(reports))

    def repeat(self, cursor: Any, boxes: Collection[str]) -> None:
        cursor.executemany(_REPEAT.replace("?", "%s"), [(box,) for box in sorted(boxes)])


def _report(event: Event, reports: Sequence[CommandReport]) -> tuple[str, list[tuple[Any, ...]]]:
    """Return the statement that applies an event, and its values for each report."""
    if event in _STEP:
        return _STEP[event], [
            (report.at_ms, report.id, report.box, report.instrument, report.instrument) for report in reports
        ]
    closing = (
        (report.outcome, report.at_ms, report.id, report.box, report.instrument, report.instrument)
        for report in reports
    )
    return _CLOSE[event], list(closing)


def _step_values(reports: Sequence[UpdateReport]) -> list[tuple[Any, ...]]:
    """Return the values of _UPDATE_STEP for each report."""
    values = []
    for box, at_ms, step in reports:
        rank = RANKS[step.step]
        of_order = step.order, box, step.release, rank
        values.append((step.step, rank, step.reason, at_ms, rank, at_ms, *of_order))
    return values
