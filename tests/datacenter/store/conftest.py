from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.datacenter.postgres import PostgresServer
from tests.support.datacenter.sharded import emptied, running_servers


@pytest.fixture(scope="module")
def servers() -> Iterator[list[PostgresServer]]:
    """The servers of a sharded store: that of the main database first."""
    with running_servers(3) as found:
        yield found


@pytest.fixture
def urls(servers: list[PostgresServer]) -> list[str]:
    return emptied(servers)
