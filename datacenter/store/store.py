"""The store: each report once, and the waiting commands. Queries are in `datacenter.store.queries`.

`ingest` is one transaction: it checks that the box is authorized, stores the records, closes the commands whose
results are among them, and selects the commands to return. When it returns, the batch is committed; when it raises,
nothing is. It runs for each batch of each box and therefore uses the driver's cursor and fixed statements: SQLAlchemy
takes three times as long for the same four statements (125 instead of 37 µs for four records).

Calls block, and only one thread at a time may write; `rap dc serve` has a thread for that. The URL selects SQLite or
PostgreSQL.
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
from settings.profile import Verb
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

REPEAT_MS_MIN: Final = 60_000
"""Interval after which a command without a result is sent again, because the reply may have been lost."""
REPEAT_MS_MAX: Final = 3_600_000
"""Limit of the interval, which doubles each time: commands for an instrument that is off must not fill the link."""

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
    """The database failed; nothing was changed."""


class UnknownBoxError(Exception):
    """No box with that serial number is authorized."""


class Store:
    """Reports and commands in the database at `url`; its tables are created or upgraded on opening.

    With `durable=False` SQLite does not flush at commits, for simulations.

    Raises: StoreError; ValueError for a URL of another kind of database.
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
        """Close the connections. The store cannot be used afterwards."""
        self._release_writer()
        self._engine.dispose()

    def authorize(self, serials: Collection[str], now_ms: int) -> None:
        """Authorize the boxes with these serial numbers, and no others. Raises: StoreError."""
        with self.transaction() as connection:
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
        """Store the new records of a batch and return the commands that are due; committed on return.

        Raises: UnknownBoxError; StoreError, with nothing stored, so that the batch can be sent again.
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
        """Return the box's due commands, oldest first; schedules the next repetition of each."""
        cursor.execute(self._waiting, (box, now_ms, COMMANDS_PER_REPLY_MAX))
        due = cursor.fetchall()
        for number, *_, deliveries in due:
            again = now_ms + repeat_delay_ms(deliveries + 1)
            cursor.execute(self._delivered, (deliveries + 1, again, number))
        return [Command(number, instrument, verb, bytes(body)) for number, instrument, verb, body, _ in due]

    def queue_command(self, box: str, instrument: str, verb: Verb, body: bytes, now_ms: int) -> int:
        """Queue a command, which is sent with replies to the box until its result arrives; return its number.

        An empty `instrument` means the box itself. Raises: StoreError, UnknownBoxError.
        """
        assert len(body) <= COMMAND_BODY_BYTES_MAX, "callers must limit the body"
        values = {"box": box, "instrument": instrument, "verb": verb, "body": body}
        statement = insert(commands).values(**values, created_at_ms=now_ms, due_at_ms=now_ms)
        with self.transaction() as connection:
            if connection.scalar(select(boxes.c.serial).where(boxes.c.serial == box)) is None:
                raise UnknownBoxError(box)
            return int(connection.execute(statement.returning(commands.c.id)).scalar_one())

    def read(self, statement: Executable) -> Iterator[Any]:
        """Yield the rows of a query in one transaction, fetched in blocks of a thousand. Raises: StoreError."""
        with self.transaction() as connection:
            yield from connection.execution_options(yield_per=1000).execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run a transaction that is committed at the end of the block. Raises: StoreError."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(str(error)) from error

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """The driver's cursor in a transaction, committed at the end of the block.

        The connection is kept for the next transaction. After an error it is returned to the pool, which rolls back
        the transaction, and the next transaction uses another one.
        """
        try:
            writer = self._writer = self._writer or self._engine.raw_connection()
            yield writer.cursor()
            writer.commit()
        except BaseException as error:
            self._release_writer()
            if isinstance(error, (self._driver_error, SQLAlchemyError)):
                raise StoreError(str(error)) from error
            raise

    def _release_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def schema_revision(url: str) -> str | None:
    """Return the schema revision of the database at `url`; None if it is empty. Changes nothing.

    Raises: StoreError; ValueError as `Store`.
    """
    engine, _ = _engine(url, durable=True)
    try:
        return current_revision(engine)
    except (SchemaError, SQLAlchemyError) as error:
        raise StoreError(str(error)) from error
    finally:
        engine.dispose()


def repeat_delay_ms(deliveries: int) -> int:
    """Return the interval in ms until a command that was sent `deliveries` times is sent again."""
    return min(REPEAT_MS_MIN << min(deliveries - 1, 16), REPEAT_MS_MAX)


def _rows(box: str, batch: Batch, now_ms: int) -> list[tuple[Any, ...]]:
    """Return the batch as rows of `records`."""
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
    """Return the engine, and the parameter placeholder of its driver."""
    try:
        engine = create_engine(url)
    except (ArgumentError, ImportError) as error:
        raise ValueError(f"{url}: {error}") from error
    if engine.dialect.name == "sqlite":
        if engine.url.database in (None, "", ":memory:", "file:"):
            # a database in memory exists per connection: share one between all threads
            engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _sqlite_settings(durable))
    mark = {"pysqlite": "?", "psycopg": "%s"}.get(engine.dialect.driver)
    if mark is None:
        raise ValueError(f"{url}: unsupported database; give sqlite:// or postgresql+psycopg://")
    return engine, mark


def _sqlite_settings(durable: bool) -> Any:
    """Return a connection handler that sets the journal mode.

    If `durable`, a write-ahead log makes a commit one sequential write, and FULL flushes it before the commit
    returns. Otherwise each page is written once, and the rollback journal is in memory.
    """
    journal, synchronous = ("WAL", "FULL") if durable else ("MEMORY", "OFF")

    def apply(connection: Any, _: object) -> None:
        _set_journal(connection, journal)
        connection.execute(f"PRAGMA synchronous = {synchronous}")

    return apply


def _set_journal(connection: sqlite3.Connection, journal: str) -> None:
    """Set the journal mode; retried, because SQLite fails immediately while another process sets it."""
    for _ in range(_JOURNAL_TRIES):
        with suppress(sqlite3.OperationalError):
            connection.execute(f"PRAGMA journal_mode = {journal}")
            return
        time.sleep(_JOURNAL_RETRY_SECONDS)
    connection.execute(f"PRAGMA journal_mode = {journal}")
