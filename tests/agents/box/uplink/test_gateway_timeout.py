"""A slow data center behind an intermediary that times out with 504, in virtual time.

The data center processes one batch at a time, including those that have timed out at the intermediary.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import pytest

from tests.agents.box.uplink.test_fallback import Spread
from tests.support.hierarchy import Hierarchy
from wire.compression import BodyKind, Decompressor, UnknownStreamError, body_kind
from wire.http.connection import Request, Response
from wire.messages import BATCH_BYTES_MAX, RECORDS_PER_BATCH_MAX, Batch, decode

FULL_BATCH_SECONDS: Final = 90.0
SHARE_SECONDS: Final = FULL_BATCH_SECONDS / RECORDS_PER_BATCH_MAX
SLOW_RECORDS: Final = 3000
QUICK_RECORDS: Final = 20_000


class Impatient(Spread):
    """The intermediary answers 504 after `timeout_s`; each record takes its share of FULL_BATCH_SECONDS.

    The first `quick` records take no time.
    """

    def __init__(
        self, pki: Hierarchy, timeout_s: float, connections: int, least_s: float, quick: int
    ) -> None:
        super().__init__(pki)
        self.quick = quick
        self.timeout_s, self.connections, self.least_s = timeout_s, connections, least_s
        self.turn = asyncio.Lock()
        self.streams: list[Decompressor] = []
        self.given_up = 0

    async def handle(self, request: Request) -> Response:
        passed = asyncio.ensure_future(self.ingest_slowly(request))
        done, _ = await asyncio.wait({passed}, timeout=self.timeout_s)
        if done:
            return passed.result()
        self.given_up += 1
        return Response(504, close=True)

    async def ingest_slowly(self, request: Request) -> Response:
        records = len(decode(Batch, self.decompress(request.body)).records)
        async with self.turn:
            if self.quick > 0:
                self.quick -= records
            else:
                await asyncio.sleep(self.least_s + SHARE_SECONDS * records)
            return await super().handle(request)

    def decompress(self, body: bytes) -> bytes:
        """The batch, whichever earlier stream it continues."""
        if body_kind(body) is BodyKind.BEGINS:
            self.streams.append(Decompressor())
            return self.streams[-1].decompress(body, BATCH_BYTES_MAX)
        for stream in (*reversed(self.streams), Decompressor()):
            with suppress(UnknownStreamError):
                return stream.decompress(body, BATCH_BYTES_MAX)
        raise AssertionError("no stream is continued by this")

    async def fill(self) -> None:
        while self.made < SLOW_RECORDS + self.quick:
            await self.report()

    async def live(self) -> None:
        async with asyncio.timeout(4 * 3600):
            await self.drained()
        self.drained_at = self.loop.time()


def best_seconds(timeout_s: float, least_s: float) -> float:
    """Time for the slow records in batches that are just answered in time."""
    records = min(RECORDS_PER_BATCH_MAX, (timeout_s - least_s) / SHARE_SECONDS)
    return SLOW_RECORDS * (least_s / records + SHARE_SECONDS)


@pytest.mark.parametrize("timeout_s", [30.0, 60.0])
@pytest.mark.parametrize("connections", [1, 2], ids=["one connection", "spread"])
@pytest.mark.parametrize("least_s", [0.0, 10.0, 25.0], ids=lambda least_s: f"{least_s:g} s at least")
@pytest.mark.parametrize("quick", [0, QUICK_RECORDS], ids=["slow", "becomes slow"])
def test_batches_shrink_until_they_are_answered_in_time(
    pki: Hierarchy, timeout_s: float, connections: int, least_s: float, quick: int
) -> None:
    world = Impatient(pki, timeout_s, connections, least_s, quick)
    world.run()
    world.check_stored_once()
    assert world.given_up > 0 or not quick
    assert world.drained_at <= 3 * best_seconds(timeout_s, least_s) + 120
