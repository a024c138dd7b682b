"""The bounded quantities of the data center's program; a quantity that approaches its limit is logged.

The limits are those of the listener (connections, TLS sessions stored for resumption), of the store's queue
(waiting records), of the process (descriptors, memory), of the file system of an SQLite database (bytes), and of the
revocation list (bytes, and the time by which it should be replaced).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from datacenter.store.queue import IngestQueue
from wire.http.connection import Server
from wire.process.bounds import CHECK_SECONDS, STORAGE_ALARM_SHARE, Bound, Bounds, Level, Measured
from wire.process.resources import process_bounds, used_and_total
from wire.tls.context import sessions_kept

_log: Final = logging.getLogger(__name__)


def datacenter_bounds(server: Callable[[], Server], queue: IngestQueue) -> Bounds:
    """Return the bounds of the process, of the listener that `server` returns, and of the store's queue."""
    bounds = Bounds(_report)
    bounds.add(
        *process_bounds(),
        Bound("connections", lambda: server().connection_usage()),
        Bound("store-queue", queue.filling),
        Bound("tls-sessions", lambda: _sessions(server())),
    )
    return bounds


def _sessions(server: Server) -> Measured | None:
    return None if server.tls is None else sessions_kept(server.tls)


async def watch_bounds(bounds: Bounds, database_url: str) -> None:
    """Measure the bounds every CHECK_SECONDS until cancelled; adds the file system of an SQLite database."""
    file = database_file(database_url)
    space: Measured | None = None
    if file is not None:
        bounds.add(Bound("file-system", lambda: space, alarm_share=STORAGE_ALARM_SHARE))
    while True:
        if file is not None:
            with suppress(OSError):
                space = await asyncio.to_thread(used_and_total, file.parent)
        bounds.check()
        await asyncio.sleep(CHECK_SECONDS)


def database_file(url: str) -> Path | None:
    """Return the file of an SQLite database; None for another kind of database, or one in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:", "file:"):
        return None
    return Path(parsed.database or "").absolute()


def _report(level: Level) -> None:
    if level.is_near:
        _log.warning(
            "%s: %.0f of %.0f are in use, %d %%", level.name, level.amount, level.limit, level.percent
        )
    else:
        _log.info(
            "%s: below the limit again, %d %% of %.0f are in use", level.name, level.percent, level.limit
        )
