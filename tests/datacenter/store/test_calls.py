"""Background work pauses as long as it works, so that other connections get SQLite's write lock."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from datacenter.store.calls import PAUSE_SECONDS, call_in_background
from sim.net.loop import SimLoop


@pytest.mark.parametrize(("lasts_s", "ends_s"), [(0.0, PAUSE_SECONDS), (2.0, 4.0)])
def test_a_call_is_followed_by_a_pause_of_the_same_length(
    lasts_s: float, ends_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def piece(*_: object) -> int:
        await asyncio.sleep(lasts_s)
        return 7

    async def work() -> tuple[int, float]:
        return await call_in_background(None, int), asyncio.get_running_loop().time()

    monkeypatch.setattr("datacenter.store.calls.call_database", piece)
    with closing(SimLoop()) as loop:
        result, ended_s = loop.run_until_complete(work())
    assert result == 7
    assert ended_s == pytest.approx(ends_s)
