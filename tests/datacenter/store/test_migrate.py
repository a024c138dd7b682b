"""Databases of earlier releases are upgraded when they are opened; a failed upgrade leaves them unchanged."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text

from datacenter.store import migrate, queries
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import REVISION, metadata
from tests.support.datacenter.store.batches import alert, batch, result
from tests.support.paths import FIXTURES

MIGRATIONS = Path(migrate.__file__).parent / "migrations"
RELEASED = FIXTURES / "released"
VERSIONS = sorted({file.name.rpartition("-")[0] for file in RELEASED.glob("*.sql")})

NEXT = '''
"""A revision of a later program."""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None
def upgrade():
    op.add_column("boxes", sa.Column("region", sa.Text, nullable=False, server_default="eu"))
    {statement}
'''


@pytest.fixture(params=["file", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database that outlives its connections."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("empty_postgres"))
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


def run_script(engine: Engine, version: str) -> None:
    script = (RELEASED / f"{version}-{engine.dialect.name}.sql").read_text()
    with engine.begin() as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)


def differences_from_the_schema(engine: Engine) -> list[Any]:
    """Return the differences between the tables and the schema, apart from partitions."""

    def is_compared(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or not (name == "alembic_version" or _is_partition(name or ""))

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": is_compared})
        return list(compare_metadata(context, metadata))


@pytest.fixture
def with_a_later_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Adds a later revision to the program, whose upgrade ends with the given Python statement."""

    def install(statement: str) -> None:
        copy = tmp_path / "migrations"
        shutil.copytree(MIGRATIONS, copy)
        (copy / "versions" / "r9999.py").write_text(NEXT.format(head=REVISION, statement=statement))
        monkeypatch.setattr(migrate, "SCRIPTS", str(copy))
        monkeypatch.setattr(migrate, "REVISION", "9999")

    return install


def test_the_newest_migration_is_that_of_the_schema() -> None:
    config = Config()
    config.set_main_option("script_location", migrate.SCRIPTS)
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_the_migrations_create_the_tables_of_the_schema(engine: Engine) -> None:
    run_script(engine, VERSIONS[0])
    migrate.upgrade(engine)
    assert differences_from_the_schema(engine) == []


def test_an_empty_database_gets_the_tables_that_migrations_create(engine: Engine) -> None:
    migrate.upgrade(engine)
    assert differences_from_the_schema(engine) == []
    assert migrate.current_revision(engine) == REVISION


PROPERTIES = {
    "sqlite": {
        "triggers": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name",
        "columns": "SELECT t.name, c.name, c.type, c.'notnull', c.dflt_value, c.pk"
        " FROM pragma_table_list t, pragma_table_info(t.name) c WHERE t.schema = 'main' ORDER BY 1, 2",
        "storage": "SELECT name, wr, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name",
    },
    "postgresql": {
        "triggers": "SELECT tgname, pg_get_triggerdef(oid), pg_get_functiondef(tgfoid) FROM pg_trigger"
        " WHERE NOT tgisinternal AND tgname LIKE 'audit%' ORDER BY tgname",
        "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
        "storage": "SELECT attrelid::regclass::text, attname, attcompression, attstorage FROM pg_attribute"
        " WHERE attnum > 0 AND attrelid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p')"
        " AND relnamespace = 'public'::regnamespace) ORDER BY 1, 2",
    },
}
"""Queries for properties that Alembic's autogeneration does not compare."""


@pytest.mark.parametrize("kind", ["triggers", "columns", "storage"])
def test_migrated_and_new_databases_are_the_same(engine: Engine, tmp_path: Path, kind: str) -> None:
    query, results = text(PROPERTIES[engine.dialect.name][kind]), []
    run_script(engine, VERSIONS[0])
    migrate.upgrade(engine)
    with engine.connect() as connection:
        results.append({tuple(row) for row in connection.execute(query) if not _is_partition(row[0])})
    if engine.dialect.name == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path / 'new.db'}")
    else:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
    migrate.upgrade(engine)
    with engine.connect() as connection:
        results.append({tuple(row) for row in connection.execute(query) if not _is_partition(row[0])})
    engine.dispose()
    assert results[0] ^ results[1] == set()
    assert len(results[0]) >= 5


def _is_partition(name: str) -> bool:
    return re.fullmatch(r"records_\d+", name) is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_of_a_release_opens_with_its_contents(engine: Engine, database: str, version: str) -> None:
    run_script(engine, version)
    store = Store(database)
    assert [record.kind for record in queries.records(store)] == ["alert", "audit"]
    again = batch(alert(1), run=7)
    assert store.ingest("RAP-0001", again, 9_000).stored == 0
    assert store.ingest("RAP-0001", batch(result(2, 1), first=3), 9_000).stored == 1
    assert [command.outcome for command in queries.commands(store)] == ["done"]
    store.close()
    assert migrate.current_revision(engine) == REVISION


def test_an_upgrade_keeps_the_rows(engine: Engine, with_a_later_revision: Callable[[str], None]) -> None:
    run_script(engine, VERSIONS[0])
    with_a_later_revision("")
    migrate.upgrade(engine)
    assert migrate.current_revision(engine) == "9999"
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT serial, region FROM boxes ORDER BY serial")).all()
    assert [tuple(row) for row in rows] == [("RAP-0001", "eu"), ("RAP-0002", "eu")]


def test_a_failing_upgrade_leaves_the_database_as_it_was(
    engine: Engine, database: str, with_a_later_revision: Callable[[str], None]
) -> None:
    run_script(engine, VERSIONS[0])
    with_a_later_revision('op.execute("UPDATE nothing SET x = 1")')
    with pytest.raises(StoreError, match="nothing"):
        Store(database)
    assert "region" not in {column["name"] for column in inspect(engine).get_columns("boxes")}
    assert migrate.current_revision(engine) == migrate.UNVERSIONED
    assert not inspect(engine).has_table("alembic_version")


def test_a_database_of_a_later_program_is_refused(engine: Engine, database: str) -> None:
    Store(database).close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=f"revision 9999.* up to {REVISION}.* or a later one"):
        Store(database)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_a_table_of_another_program_is_refused(engine: Engine, database: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE records (title TEXT)"))
    with pytest.raises(StoreError, match=r"tables of another program \(records\)"):
        Store(database)
    assert inspect(engine).get_table_names() == ["records"]


@pytest.mark.parametrize("version", ["", *VERSIONS])
def test_processes_that_start_together_upgrade_once(engine: Engine, database: str, version: str) -> None:
    if version:
        run_script(engine, version)
    start, failures = threading.Barrier(4), list[BaseException]()

    def open_store() -> None:
        start.wait()
        try:
            Store(database).close()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=open_store) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert migrate.current_revision(engine) == REVISION
