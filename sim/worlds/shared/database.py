"""All bytes in a data center's database, for the search for texts about patients."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from datacenter.store.store import Store
from datacenter.store.tables import schema


def rows(store: Store) -> Iterator[bytes]:
    """Yield each row of each table."""
    with store.transaction() as connection:
        for table in schema.metadata.sorted_tables:
            for row in connection.execute(select(table)):
                yield b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
