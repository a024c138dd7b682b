"""The store: every report once, and the commands that wait. What can be asked of it is in `datacenter.store.queries`.

`ingest` is one transaction: whether the box may send, the records, the commands that their results close, and
the commands that go back with the answer. When it returns, the batch is committed; when it raises, nothing of
it is. It runs for each batch of each box, so it uses the driver's own cursor and fixed statements: through
SQLAlchemy's execution the same four statements cost three times as much (125 against 37 µs for four records).

Calls block, and one thread at a time may write: `rap dc serve` has one for it. The database is SQLite or
PostgreSQL by nothing but the URL.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, get_args

from sqlalchemy import Connection, Engine, Executable, create_engine, event, insert, select, text, update
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import PoolProxiedConnection, StaticPool

from datacenter.store.migrate import SchemaError, current_revision, upgrade
from datacenter.store.schema import boxes, commands
from wire.messages import (
    COMMAND_BODY_BYTES_MAX,
    COMMANDS_PER_REPLY_MAX,
    Batch,
    BatchReply,
    BoxReport,
    Command,
    CommandResult,
    InstrumentReport,
    encode,
    sequences,
)
from wire.vocabulary import Verb

REPEAT_MS_MIN: Final = 60_000
"""A command goes out again when this has passed without a result: its reply may have been lost."""
REPEAT_MS_MAX: Final = 3_600_000
"""The wait doubles up to this: an instrument that is switched off must not fill the downlink."""

_KINDS: Final[dict[type, str]] = {
    kind: str(kind.__struct_config__.tag) for kind in (*get_args(InstrumentReport), *get_args(BoxReport))
}

_JOURNAL_TRIES: Final = 50
_JOURNAL_RETRY_SECONDS: Final = 0.02

_MAY_SEND: Final = "SELECT 1 FROM boxes WHERE serial = ? AND dismissed_at_ms IS NULL"
_INSERT: Final = (
    "INSERT INTO records (box, epoch, sequence, instrument, run, number, kind, at_ms, stored_at_ms, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_CLOSE: Final = (
    "UPDATE commands SET outcome = ?, closed_at_ms = ?"
    " WHERE id = ? AND box = ? AND instrument = ? AND outcome IS NULL"
)
_WAITING: Final = (
    "SELECT id, instrument, verb, body, delivered_count FROM commands"
    " WHERE box = ? AND outcome IS NULL AND due_at_ms <= ? ORDER BY id LIMIT ?"
)
_DELIVERED: Final = "UPDATE commands SET delivered_count = ?, due_at_ms = ? WHERE id = ?"


class StoreError(Exception):
    """The database failed, and nothing of what was asked was done."""


class UnknownBoxError(Exception):
    """No box of that serial number may send."""


class Store:
    """Reports and commands in the database at `url`; its tables are created or upgraded on opening.

    With `durable=False` SQLite leaves out the flush at each commit: for a machine that never loses power, as in
    a simulation. Raises StoreError, and ValueError for a URL of something else.
    """

    def __init__(self, url: str, *, durable: bool = True) -> None:
        self._engine, mark = _engine(url, durable)
        self._may_send, self._insert, self._close, self._waiting, self._delivered = (
            statement.replace("?", mark) for statement in (_MAY_SEND, _INSERT, _CLOSE, _WAITING, _DELIVERED)
        )
        self._writer: PoolProxiedConnection | None = None
        self._driver_error = self._engine.dialect.loaded_dbapi.Error
        try:
            upgrade(self._engine)
        except (SchemaError, SQLAlchemyError) as error:
            raise StoreError(str(error)) from error

    def close(self) -> None:
        """End the connections; the store is of no further use."""
        self._give_back_writer()
        self._engine.dispose()

    def authorize(self, serials: Collection[str], now_ms: int) -> None:
        """From now on the boxes of these serial numbers may send, and no others. Raises StoreError."""
        with self._transaction() as connection:
            enrol = text(
                "INSERT INTO boxes (serial, enrolled_at_ms) VALUES (:serial, :now) ON CONFLICT DO NOTHING"
            )
            for serial in serials:
                connection.execute(enrol, {"serial": serial, "now": now_ms})
            listed = boxes.c.serial.in_(serials)
            connection.execute(update(boxes).where(listed).values(dismissed_at_ms=None))
            dismissed = ~listed & boxes.c.dismissed_at_ms.is_(None)
            connection.execute(update(boxes).where(dismissed).values(dismissed_at_ms=now_ms))

    def ingest(self, box: str, batch: Batch, now_ms: int) -> BatchReply:
        """Store what is new of the batch, and give the commands that are due; all of it is committed on return.

        Raises UnknownBoxError, and StoreError after which nothing is stored and the batch may come again.
        """
        rows = _rows(box, batch, now_ms)
        with self._cursor() as cursor:
            cursor.execute(self._may_send, (box,))
            if cursor.fetchone() is None:
                raise UnknownBoxError(box)
            cursor.executemany(self._insert, rows)
            stored = cursor.rowcount
            for record in batch.records:
                result = record.entry.body
                if isinstance(result, CommandResult):
                    key = (result.command, box, record.entry.instrument)
                    cursor.execute(self._close, (result.outcome, now_ms, *key))
            return BatchReply(stored, self._take_due(cursor, box, now_ms))

    def _take_due(self, cursor: Any, box: str, now_ms: int) -> list[Command]:
        """The box's commands that are due, oldest first; each is due again when its result could have come."""
        cursor.execute(self._waiting, (box, now_ms, COMMANDS_PER_REPLY_MAX))
        due = cursor.fetchall()
        for number, *_, deliveries in due:
            again = now_ms + repeat_delay_ms(deliveries + 1)
            cursor.execute(self._delivered, (deliveries + 1, again, number))
        return [Command(number, instrument, verb, bytes(body)) for number, instrument, verb, body, _ in due]

    def queue_command(self, box: str, instrument: str, verb: Verb, body: bytes, now_ms: int) -> int:
        """Have the command sent with the box's next answers until its result comes; gives its number.

        An empty `instrument` means the box itself. Raises StoreError, UnknownBoxError.
        """
        assert len(body) <= COMMAND_BODY_BYTES_MAX, "whoever takes a command in bounds its body"
        values = {"box": box, "instrument": instrument, "verb": verb, "body": body}
        statement = insert(commands).values(**values, created_at_ms=now_ms, due_at_ms=now_ms)
        with self._transaction() as connection:
            if connection.scalar(select(boxes.c.serial).where(boxes.c.serial == box)) is None:
                raise UnknownBoxError(box)
            return int(connection.scalar(statement.returning(commands.c.id)) or 0)

    def read(self, statement: Executable) -> Iterator[Any]:
        """The rows of a query, a thousand at a time, as of one moment. Raises StoreError."""
        with self._transaction() as connection:
            yield from connection.execution_options(yield_per=1000).execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(str(error)) from error

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """The driver's cursor in a transaction of its own, committed at the end of the block.

        Its connection is kept for the next time, and given back, which undoes what was not committed, after any
        error: the next one may need another.
        """
        try:
            writer = self._writer = self._writer or self._engine.raw_connection()
            yield writer.cursor()
            writer.commit()
        except BaseException as error:
            self._give_back_writer()
            if isinstance(error, (self._driver_error, SQLAlchemyError)):
                raise StoreError(str(error)) from error
            raise

    def _give_back_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def schema_revision(url: str) -> str | None:
    """The revision of the tables in the database at `url`; None if there are none. Changes no table.

    Raises StoreError, and ValueError as `Store`.
    """
    engine, _ = _engine(url, durable=True)
    try:
        return current_revision(engine)
    except (SchemaError, SQLAlchemyError) as error:
        raise StoreError(str(error)) from error
    finally:
        engine.dispose()


def repeat_delay_ms(deliveries: int) -> int:
    """How long a command that was sent so many times waits for its result before it is sent again."""
    return min(REPEAT_MS_MIN << min(deliveries - 1, 16), REPEAT_MS_MAX)


def _rows(box: str, batch: Batch, now_ms: int) -> list[tuple[Any, ...]]:
    """The batch as rows of `records`."""
    epoch = batch.epoch
    rows: list[tuple[Any, ...]] = []
    for sequence, record in zip(sequences(batch), batch.records, strict=True):
        entry = record.entry
        body, instrument = entry.body, entry.instrument
        number = body.number if instrument and not isinstance(body, BoxReport) else None
        identity = (box, epoch, sequence, instrument, entry.run, number)
        rows.append((*identity, _KINDS[type(body)], body.at_ms, now_ms, encode(body)))
    return rows


def _engine(url: str, durable: bool) -> tuple[Engine, str]:
    """The engine, and how its driver spells a parameter."""
    try:
        engine = create_engine(url)
    except (ArgumentError, ImportError) as error:
        raise ValueError(f"{url}: {error}") from error
    if engine.dialect.name == "sqlite":
        if engine.url.database in (None, "", ":memory:", "file:"):
            # it ends with its connection: one for all threads, not one for each
            engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _sqlite_settings(durable))
    mark = {"pysqlite": "?", "psycopg": "%s"}.get(engine.dialect.driver)
    if mark is None:
        raise ValueError(f"{url}: the store speaks sqlite:// and postgresql+psycopg://")
    return engine, mark


def _sqlite_settings(durable: bool) -> Any:
    """With a write-ahead log a commit is one sequential write; FULL flushes it before the commit returns.

    Where nothing need survive, each page is written once and what undoes a transaction is kept in memory.
    """
    journal, synchronous = ("WAL", "FULL") if durable else ("MEMORY", "OFF")

    def apply(connection: Any, _: object) -> None:
        _set_journal(connection, journal)
        connection.execute(f"PRAGMA synchronous = {synchronous}")

    return apply


def _set_journal(connection: sqlite3.Connection, journal: str) -> None:
    """Set the journal mode. SQLite fails at once, without its time-out, while another process is doing so."""
    for _ in range(_JOURNAL_TRIES):
        with suppress(sqlite3.OperationalError):
            connection.execute(f"PRAGMA journal_mode = {journal}")
            return
        time.sleep(_JOURNAL_RETRY_SECONDS)
    connection.execute(f"PRAGMA journal_mode = {journal}")
