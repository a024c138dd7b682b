"""The program counts the installed base in parts, with pauses in which other connections can write."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from datacenter.base import counter
from datacenter.store.store import Store
from sim.net.loop import SimLoop

LOCK_RETRY_SECONDS = 0.1
"""The longest pause between two attempts of SQLite's busy handler."""


def test_other_writers_get_the_lock_between_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    store, loop = Store("sqlite://"), SimLoop()
    times = list[float]()

    def count_changed(*_: object) -> int:
        times.append(loop.time())
        return 4 - len(times)

    async def main() -> None:
        task = asyncio.create_task(counter.count_periodically(store, None, lambda: 0))
        await asyncio.sleep(counter.COUNT_SECONDS / 2)
        task.cancel()

    monkeypatch.setattr(counter, "count_changed", count_changed)
    loop.run_until_complete(main())
    store.close()
    assert len(times) == 4
    assert all(after - before > LOCK_RETRY_SECONDS for before, after in pairwise(times))
