from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.datacenter.store.postgres import PostgresServer
from tests.support.datacenter.store.sharded import emptied, running_servers


@pytest.fixture(scope="module")
def servers() -> Iterator[list[PostgresServer]]:
    """The PostgreSQL servers of a sharded store: first that of the main database, then those of the shards."""
    with running_servers(3) as running:
        yield running


@pytest.fixture
def urls(servers: list[PostgresServer]) -> list[str]:
    return emptied(servers)
