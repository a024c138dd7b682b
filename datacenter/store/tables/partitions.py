"""The partitions of `records` on PostgreSQL: one for each day on which rows were stored.

The rows of a day can be dropped as a whole, without touching those of other days. SQLite has no partitions.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

DAY_MS: Final = 86_400_000
_ADVISORY_LOCK: Final = 0x5241_5044_4201
"""Key of the PostgreSQL advisory lock that lets only one process create partitions."""
_LOCK_NOT_AVAILABLE: Final = "55P03"
_DAYS: Final = text(
    "SELECT substr(relname, 9)::int FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    " WHERE inhparent = 'records'::regclass"
)


class Partitions:
    """Creates the partition of a day before its first row, and drops it when it is empty again."""

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

    def forget(self) -> None:
        """Forget the known partitions, after an error: a process whose clock was ahead may have dropped today's."""
        self._days = set()

    def drop_empty(self, now_ms: int) -> int:
        """Drop the empty partitions of days before yesterday; return their number.

        Partitions that another transaction uses are kept until the next call. Raises: SQLAlchemyError.
        """
        if self._engine.dialect.name != "postgresql":
            return 0
        with self._engine.connect() as connection:
            days = sorted(connection.scalars(_DAYS))
        return sum(self._drop_if_empty(day) for day in days if day < now_ms // DAY_MS - 1)

    def _drop_if_empty(self, day: int) -> bool:
        has_rows = text(f"SELECT EXISTS (SELECT FROM records_{day})")  # noqa: S608
        with self._engine.connect() as connection:
            if connection.scalar(has_rows):
                return False
        try:
            with self._engine.begin() as connection:
                # meanwhile, batches wait too
                connection.execute(text("SET LOCAL lock_timeout = '1s'"))
                connection.execute(text("LOCK TABLE ONLY records IN ACCESS EXCLUSIVE MODE"))
                connection.execute(text(f"LOCK TABLE records_{day} IN ACCESS EXCLUSIVE MODE"))
                if connection.scalar(has_rows):
                    return False
                connection.execute(text(f"DROP TABLE records_{day}"))
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            return False
        return True


def create_partition(connection: Connection, day: int) -> None:
    """Create the partition of a day (days since 1970), unless it exists."""
    first, end = day * DAY_MS, (day + 1) * DAY_MS
    connection.execute(
        text(
            f"CREATE TABLE IF NOT EXISTS records_{day} PARTITION OF records FOR VALUES FROM ({first}) TO ({end})"
        )
    )
