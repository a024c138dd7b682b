from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from datacenter.store.store import Store
from tests.support.datacenter.store.postgres import running_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of the PostgreSQL database that tests share; `empty_postgres` empties it."""
    with running_server() as url:
        yield url


@pytest.fixture
def empty_postgres(postgres: str) -> str:
    engine = create_engine(postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return postgres


@pytest.fixture(params=["memory", "file", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("empty_postgres"))
    return {"memory": "sqlite://", "file": f"sqlite:///{tmp_path / 'store.db'}"}[request.param]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    store.authorize(["RAP-0001", "RAP-0002"], 0)
    yield store
    store.close()
