"""Creates the schema of `datacenter.store.tables.schema`, or upgrades an older database to it.

In an empty database the current tables are created directly, because simulations do that a thousand times; a test
compares them with the result of the migrations. An older database is upgraded by Alembic, with all revisions in one
transaction, so that a failure changes nothing. Databases of version 0.1.0 have no revision and are recognized by
their tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from sqlalchemy import Column, Connection, Engine, MetaData, Table, Text, create_mock_engine, inspect, select
from sqlalchemy.schema import ExecutableDDLElement

from datacenter.store import migrations
from datacenter.store.tables.schema import REVISION, metadata

UNVERSIONED: Final = "0001"
"""The revision of a database with tables but without a stored revision."""

SCRIPTS: Final = ":".join(migrations.__name__.rsplit(".", 1))
"""Location of the revisions for Alembic: a package and a directory in it."""
_ADVISORY_LOCK: Final = 0x5241_5044_4200
"""Key of the PostgreSQL advisory lock that lets only one process upgrade a database."""

version_table = Table("alembic_version", MetaData(), Column("version_num", Text, primary_key=True))


class SchemaError(Exception):
    """The tables do not belong to this version of the program; nothing was changed. The message says what to do."""


def current_revision(engine: Engine) -> str | None:
    """Return the revision of the database's tables, four digits; None if it is empty.

    Raises: SchemaError for tables of a later version or of another program; SQLAlchemyError.
    """
    with engine.connect() as connection:
        return _revision(connection)


def upgrade(engine: Engine) -> None:
    """Create or upgrade the tables, all or nothing. Concurrent callers wait for each other.

    Raises: SchemaError for tables of a later version or of another program; SQLAlchemyError.
    """
    with engine.connect() as connection:
        if _revision(connection) == REVISION and inspect(connection).has_table(version_table.name):
            return
    with _exclusive(engine) as connection:
        revision = _revision(connection)
        if revision is None:
            for statement in _create_statements(connection.dialect.name):
                connection.exec_driver_sql(statement)
        _stamp(connection, revision or REVISION)
        if revision is not None and revision != REVISION:
            _run_revisions(connection)


@cache
def _create_statements(dialect: str) -> list[str]:
    """Return the statements that create all tables. Compiling them takes longer than SQLite takes to execute them."""
    statements: list[str] = []

    def note(statement: ExecutableDDLElement, *_arguments: object, **_options: object) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine(f"{dialect}://", note)
    metadata.create_all(engine, checkfirst=False)
    return statements


def _revision(connection: Connection) -> str | None:
    tables = set(inspect(connection).get_table_names())
    if version_table.name in tables and (stored := connection.scalar(select(version_table.c.version_num))):
        if (revision := str(stored)) > REVISION:
            raise SchemaError(
                f"its tables have revision {revision}, but this program supports revisions up to {REVISION}: "
                "run the version of the program that upgraded them, or a later one"
            )
        return revision
    ours = set(metadata.tables)
    if not tables & ours:
        return None
    if not {"boxes", "records", "commands"} <= tables:
        stored = ", ".join(sorted(tables & ours))
        raise SchemaError(f"it contains tables of another program ({stored}): give an empty database")
    return UNVERSIONED


def _run_revisions(connection: Connection) -> None:
    """Run the revisions after the database's revision. Alembic is imported here because importing it is slow."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    config.attributes["connection"] = connection
    command.upgrade(config, REVISION)


def _stamp(connection: Connection, revision: str) -> None:
    version_table.create(connection, checkfirst=True)
    connection.execute(version_table.delete())
    connection.execute(version_table.insert().values(version_num=revision))


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    """Yield a transaction that excludes upgrades by other processes; it is committed at the end of the block.

    The sqlite3 module would commit before each CREATE or ALTER if it managed the transaction itself.
    """
    with engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection
            connection.commit()
            return
        driver = connection.connection.driver_connection
        assert driver is not None
        usual, driver.isolation_level = driver.isolation_level, None
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
        finally:
            driver.isolation_level = usual
