"""Archives statuses in the background, one instrument at a time, so that batches are not delayed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from datacenter.config import RetentionConfig
from datacenter.history.archive import archive_instrument, waiting
from datacenter.retention import delete_piece, kept_days
from datacenter.store.calls import call_database, call_in_background
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS

ARCHIVE_SECONDS: Final = 3600.0
FOREVER: Final = RetentionConfig()
_log: Final = logging.getLogger(__name__)


async def archive_hourly(
    store: Store,
    executor: Executor | None,
    now_ms: Callable[[], int],
    rows_days: int,
    retention: RetentionConfig = FOREVER,
) -> None:
    """Move statuses to chunks `rows_days` after they were stored, and delete expired data, until cancelled.

    A failure of the database is logged; the next hour continues. `executor` is as for `Follower`.
    """
    while True:
        before_ms = now_ms() - rows_days * DAY_MS
        try:
            for box, instrument in await call_database(executor, waiting, store, before_ms):
                await call_in_background(executor, archive_instrument, store, box, instrument, before_ms)
        except StoreError as error:
            _log.error("statuses are not archived: %s", error)
        try:
            await _delete_expired(store, executor, now_ms(), retention)
        except StoreError as error:
            _log.error("expired records are not deleted: %s", error)
        await asyncio.sleep(ARCHIVE_SECONDS)


async def _delete_expired(
    store: Store, executor: Executor | None, now_ms: int, retention: RetentionConfig
) -> None:
    """Delete in pieces, so that batches are not delayed; then drop empty partitions. Raises: StoreError."""
    for kind, days in kept_days(retention).items():
        total = 0
        while deleted := await call_in_background(executor, delete_piece, store, kind, days, now_ms):
            total += deleted
        if total:
            _log.info("%s: deleted %d rows older than %d days", kind, total, days)
    for part in store.parts:
        await call_database(executor, part.drop_empty_partitions, now_ms)
