"""Counts changed days in the background of the data center's program, in short steps that delay batches little."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from datacenter.base.counting import count_changed
from datacenter.store.calls import call_in_background
from datacenter.store.errors import StoreError
from datacenter.store.store import Store

COUNT_SECONDS: Final = 600.0
_log: Final = logging.getLogger(__name__)


async def count_periodically(store: Store, executor: Executor | None, now_ms: Callable[[], int]) -> None:
    """Count all changed days periodically, until cancelled.

    A failure of the database is logged, and counting continues at the next interval.
    """
    while True:
        try:
            counted = 1
            while counted:
                counted = await call_in_background(executor, count_changed, store, now_ms())
        except StoreError as error:
            _log.error("the installed base could not be counted: %s", error)
        await asyncio.sleep(COUNT_SECONDS)
