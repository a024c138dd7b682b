"""The store, which has each report once, and the waiting commands. Queries are in `datacenter.store.queries`.

Reports and audit records of a box (`datacenter.store.moving.REPORTS`) are read from the store that `Store.of` returns
for it, which is the store itself unless there are shards (`datacenter.store.shards`); all other tables are in the
store itself.

`ingest` is one transaction: it checks that the box is authorized, stores the new records, closes the commands whose
results are among them, and selects the commands to return. When it returns, the batch is committed; when it raises,
nothing is stored. Processes that ingest batches of the same box wait for each other; processes with batches of
different boxes do not.

Calls block, and only one thread of a process at a time may write; `rap dc serve` has a thread for that. The URL
selects SQLite or PostgreSQL.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import PoolProxiedConnection, StaticPool

from datacenter.store.batches.batch import Received, exchange_commands, store_records
from datacenter.store.batches.statements import PostgresStatements, SqliteStatements, Statements
from datacenter.store.command_states import TRANSITIONS, Event
from datacenter.store.errors import StoreError, UnknownBoxError
from datacenter.store.migrate import SchemaError, current_revision, upgrade
from datacenter.store.tables.partitions import Partitions
from datacenter.store.tables.schema import boxes, commands
from settings.profile import Verb
from wire.messages import COMMAND_BODY_BYTES_MAX, Batch, BatchReply

_STATEMENTS: Final[dict[str, Callable[[], Statements]]] = {
    "pysqlite": SqliteStatements,
    "psycopg": PostgresStatements,
}
"""Statements by the driver in the URL."""
CONNECT_SECONDS_MAX: Final = 10
"""Time limit for connecting to PostgreSQL: a host that is down may not respond at all."""
LOCK_SECONDS_MAX: Final = 15
"""Time limit for waiting for SQLite's write lock; a browser waits for 20 s."""
_JOURNAL_TRIES: Final = 50
_JOURNAL_RETRY_SECONDS: Final = 0.02


class StoreWriter:
    """A connection that is kept for successive transactions, by one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._driver_error = engine.dialect.loaded_dbapi.Error
        self._connection: PoolProxiedConnection | None = None

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Yield the driver's cursor in a transaction, committed at the end of the block. Raises: StoreError.

        After an error the connection is returned to the pool, which rolls back the transaction, and the next
        transaction uses another one. If the server has closed it, all connections are replaced.
        """
        try:
            connection = self._connection = self._connection or self._engine.raw_connection()
            yield connection.cursor()
            connection.commit()
        except BaseException as error:
            self._discard(error)
            if isinstance(error, (self._driver_error, SQLAlchemyError)):
                raise StoreError.of(error) from None
            raise

    def _discard(self, error: BaseException) -> None:
        """Return the connection to the pool, or close all connections if the server has closed this one."""
        connection = self._connection
        if connection is not None and isinstance(error, self._driver_error):
            driver_error: Any = error
            if self._engine.dialect.is_disconnect(driver_error, connection, None):
                connection.invalidate()
                self._engine.dispose()
        self.release()

    def release(self) -> None:
        """Return the connection to the pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Store:
    """Reports and commands in the database at `url`; its tables are created or upgraded on opening.

    With `durable=False` SQLite does not flush at commits, for simulations.

    Raises: StoreError; ValueError for a URL of another kind of database.
    """

    def __init__(self, url: str, *, durable: bool = True) -> None:
        self._engine, statements = _engine(url, durable)
        self._partitions = Partitions(self._engine)
        self._statements = statements
        self._writer = StoreWriter(self._engine)
        self._prepare()

    def _prepare(self) -> None:
        """Create or upgrade the tables. Raises: StoreError."""
        try:
            upgrade(self._engine)
        except (SchemaError, SQLAlchemyError) as error:
            raise StoreError.of(error) from None

    @property
    def has_one_writer(self) -> bool:
        """Whether the database has one writer at a time; a second thread is then useless."""
        return self._engine.dialect.name == "sqlite"

    @property
    def url(self) -> str:
        """The URL of the database, without password."""
        return self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close the connections. The store cannot be used afterwards."""
        self._writer.release()
        self._engine.dispose()

    @property
    def parts(self) -> Sequence[Store]:
        """The stores that have reports: this one, then the shards."""
        return (self,)

    def of(self, box: str) -> Store:  # noqa: ARG002
        """Return the store with the reports of a box. Raises: StoreError."""
        return self

    def check(self) -> None:
        """Raise StoreError if boxes have their reports in a shard that the store does not have."""
        named = select(boxes.c.shard).where(boxes.c.shard.is_not(None)).distinct()
        for (name,) in sorted(tuple(row) for row in self.read(named)):
            if name not in self._shard_names:
                raise StoreError(
                    f"boxes have their reports in shard {name}, which is not configured: give its name and URL "
                    "in [[store.shards]]"
                )

    @property
    def _shard_names(self) -> Collection[str]:
        return ()

    def _new_shard(self, box: str) -> str | None:  # noqa: ARG002
        """Return the shard of a box that is authorized for the first time."""
        return None

    @contextmanager
    def within(self, outer: Store, connection: Connection) -> Iterator[Connection]:
        """Run a transaction of this store within one of the store `outer`, whose connection is `connection`.

        It is the same transaction if `outer` is this store. Otherwise it is committed before the outer one.
        """
        if outer is self:
            yield connection
            return
        with self.transaction() as own:
            yield own

    def authorize(self, serials: Collection[str], now_ms: int) -> None:
        """Authorize the boxes with these serial numbers, and no others. Raises: StoreError."""
        with self.transaction() as connection:
            self._authorize(connection, serials, now_ms)

    def _authorize(self, connection: Connection, serials: Collection[str], now_ms: int) -> None:
        for serial in serials:
            self._enrol(connection, serial, now_ms)
        dismissed = ~boxes.c.serial.in_(serials) & boxes.c.dismissed_at_ms.is_(None)
        connection.execute(update(boxes).where(dismissed).values(dismissed_at_ms=now_ms))

    def authorize_also(self, serial: str, site: str, now_ms: int) -> None:
        """Authorize a further box, at a site, until `authorize` is called without it. Raises: StoreError."""
        with self.transaction() as connection:
            self._enrol(connection, serial, now_ms)
            connection.execute(update(boxes).where(boxes.c.serial == serial).values(site=site))

    def _enrol(self, connection: Connection, serial: str, now_ms: int) -> None:
        """Insert a box, or authorize it again."""
        enrol = text(
            "INSERT INTO boxes (serial, enrolled_at_ms, shard) VALUES (:serial, :now, :shard)"
            " ON CONFLICT (serial) DO UPDATE SET dismissed_at_ms = NULL"
        )
        new = {"serial": serial, "now": now_ms, "shard": self._new_shard(serial)}
        connection.execute(enrol, new)

    def ingest(self, box: str, batch: Batch, now_ms: int) -> BatchReply:
        """Store the new records of a batch and return the commands that are due; committed on return.

        Raises: UnknownBoxError; StoreError, with nothing stored, so that the batch can be sent again.
        """
        (outcome,) = self.ingest_all([Received(box, batch, now_ms)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def ingest_all(self, received: Sequence[Received]) -> list[BatchReply | UnknownBoxError | StoreError]:
        """Store batches in one transaction, as `ingest` does; return for each its reply, or its exception.

        If the transaction fails, each batch is tried separately, so that one batch cannot prevent the storage of the
        others.
        """
        try:
            self._partitions.prepare(received[-1].at_ms)
            return self._store(received)
        except (StoreError, SQLAlchemyError) as error:
            self._partitions.forget()
            if len(received) == 1:
                return [StoreError.of(error)]
        return [outcome for batch in received for outcome in self.ingest_all([batch])]

    def _store(self, received: Sequence[Received]) -> list[BatchReply | UnknownBoxError | StoreError]:
        with self._writer.cursor() as cursor:
            stored = store_records(self._statements, cursor, received)
            due = exchange_commands(self._statements, cursor, stored.accepted)
        return stored.replies(due)

    def drop_empty_partitions(self, now_ms: int) -> int:
        """Drop the partitions of past days that have no rows; return their number. Raises: StoreError."""
        try:
            return self._partitions.drop_empty(now_ms)
        except SQLAlchemyError as error:
            raise StoreError.of(error) from None

    def queue_command(
        self, box: str, instrument: str, verb: Verb, body: bytes, now_ms: int, **columns: Any
    ) -> int:
        """Queue a command, which is sent with replies to the box until its result arrives; return its number.

        An empty `instrument` means the box itself. `columns` are further columns of the table `commands`.

        Raises: StoreError, UnknownBoxError.
        """
        with self.transaction() as connection:
            return self.queue_within(connection, box, instrument, verb, body, now_ms, **columns)

    def queue_within(
        self,
        connection: Connection,
        box: str,
        instrument: str,
        verb: Verb,
        body: bytes,
        now_ms: int,
        **columns: Any,
    ) -> int:
        """Queue a command as `queue_command` does, in a transaction."""
        assert len(body) <= COMMAND_BODY_BYTES_MAX, "callers must limit the body"
        if connection.scalar(select(boxes.c.serial).where(boxes.c.serial == box)) is None:
            raise UnknownBoxError(box)
        values = {"box": box, "instrument": instrument, "verb": verb, "body": body, **columns}
        statement = insert(commands).values(**values, created_at_ms=now_ms, due_at_ms=now_ms)
        return int(connection.execute(statement.returning(commands.c.id)).scalar_one())

    def withdraw_command(self, command: int, now_ms: int) -> None:
        """Withdraw a command: immediately if it was never sent to its box, otherwise unless it has begun there.

        Raises: StoreError.
        """
        self._end_commands(commands.c.id == command, "withdrawn", now_ms)

    def expire_commands(self, now_ms: int) -> None:
        """End the commands that have expired, in the same way as `withdraw_command`. Raises: StoreError."""
        self._end_commands(commands.c.expires_at_ms <= now_ms, "expired", now_ms)

    def _end_commands(self, condition: ColumnElement[bool], event: Event, now_ms: int) -> None:
        """End commands before their execution.

        If a command was sent to its box, the box decides whether it has begun. The boxes' rows are locked, as by
        `ingest`, which sends commands.
        """
        of_event = (condition, commands.c.state.in_(tuple(TRANSITIONS[event])), commands.c.ending.is_(None))
        with self.transaction() as connection:
            affected = connection.scalars(select(commands.c.box).where(*of_event).distinct()).all()
            if not affected:
                return
            lock = select(boxes.c.serial).where(boxes.c.serial.in_(affected)).order_by(boxes.c.serial)
            connection.execute(lock.with_for_update(key_share=True))
            was_sent = commands.c.delivered_count > 0
            closed = {"state": event, "closed_at_ms": now_ms}
            connection.execute(update(commands).where(*of_event, ~was_sent).values(closed))
            connection.execute(
                update(commands).where(*of_event, was_sent).values(ending=event, due_at_ms=now_ms)
            )

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
            raise StoreError.of(error) from None


def schema_revision(url: str) -> str | None:
    """Return the schema revision of the database at `url`; None if it is empty. Changes nothing.

    Raises: StoreError; ValueError as `Store`.
    """
    engine, _ = _engine(url, durable=True)
    try:
        return current_revision(engine)
    except (SchemaError, SQLAlchemyError) as error:
        raise StoreError.of(error) from None
    finally:
        engine.dispose()


def _engine(url: str, durable: bool) -> tuple[Engine, Statements]:
    """Return the engine, and the statements for its database."""
    try:
        engine = create_engine(url, hide_parameters=True, connect_args=_connect_arguments(url))
    except (ArgumentError, ImportError) as error:
        raise ValueError(f"{url}: {error}") from error
    if engine.dialect.name == "sqlite":
        if engine.url.database in (None, "", ":memory:", "file:"):
            # a database in memory exists per connection: share one between all threads
            engine = create_engine(
                url,
                hide_parameters=True,
                poolclass=StaticPool,
                connect_args={"check_same_thread": False},
            )
        event.listen(engine, "connect", _sqlite_settings(durable))
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _postgresql_settings)
    statements = _STATEMENTS.get(engine.dialect.driver)
    if statements is None:
        raise ValueError(f"{url}: unsupported database; give sqlite:// or postgresql+psycopg://")
    return engine, statements()


def _connect_arguments(url: str) -> dict[str, Any]:
    """Return the time limits: for PostgreSQL to respond, unless the URL has one, and for SQLite's write lock.

    Raises: ArgumentError.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"timeout": LOCK_SECONDS_MAX}
    return {} if "connect_timeout" in parsed.query else {"connect_timeout": CONNECT_SECONDS_MAX}


def _postgresql_settings(connection: Any, _: object) -> None:
    """Compress long values with LZ4 if the server has it: the default method takes half of the time of a batch."""
    connection.execute(
        "SELECT set_config(name, 'lz4', false) FROM pg_settings"
        " WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
    )
    connection.commit()


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
