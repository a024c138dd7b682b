"""A store of a main database and two shards, on three PostgreSQL servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from sqlalchemy import create_engine

from datacenter.store.shards import ShardedStore
from tests.support.datacenter.store.postgres import PostgresServer, killable_server

NAMES = ("a", "b")


@contextmanager
def running_servers(count: int) -> Iterator[list[PostgresServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(killable_server()) for _ in range(count)]


def emptied(servers: Sequence[PostgresServer]) -> list[str]:
    """Return the URLs of the servers' databases, without tables."""
    for server in servers:
        engine = create_engine(server.url)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        engine.dispose()
    return [server.url for server in servers]


def open_sharded(urls: Sequence[str]) -> ShardedStore:
    main, *shards = urls
    return ShardedStore(main, dict(zip(NAMES, shards, strict=True)))
