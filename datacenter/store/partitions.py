"""The partitions of `records` on PostgreSQL: one for each day on which rows were stored.

The rows of a day can be dropped as a whole, without touching those of other days. SQLite has no partitions.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Engine, text

DAY_MS: Final = 86_400_000
_ADVISORY_LOCK: Final = 0x5241_5044_4201
"""Key of the PostgreSQL advisory lock that lets only one process create partitions."""


class Partitions:
    """Creates the partition of a day before its first row."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._days: set[int] = set()

    def prepare(self, now_ms: int) -> None:
        """Create the partitions of this day and the next one, if they do not exist.

        Raises: SQLAlchemyError.
        """
        today = now_ms // DAY_MS
        if today in self._days or self._engine.dialect.name != "postgresql":
            return
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            for day in (today, today + 1):
                create_partition(connection, day)
        self._days = {today}


def create_partition(connection: Connection, day: int) -> None:
    """Create the partition of a day since 1970, unless it exists."""
    first, end = day * DAY_MS, (day + 1) * DAY_MS
    connection.execute(
        text(
            f"CREATE TABLE IF NOT EXISTS records_{day} PARTITION OF records FOR VALUES FROM ({first}) TO ({end})"
        )
    )
