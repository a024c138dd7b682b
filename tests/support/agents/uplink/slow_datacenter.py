"""A data center with slow responses, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import Random

from agents.spool import Priority
from sim.net.link import LinkQuality
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from wire import messages

BACKLOG = 4000


DRAIN_SECONDS_MAX = 2 * 3600.0


LINE = LinkQuality(128_000, 40_000_000, 10_000_000)


class Slow(World):
    """A data center that delays its responses to batches by the values of `delays` (seconds), in order of arrival."""

    def __init__(self, pki: Hierarchy, delays: Iterable[float], backlog: int = BACKLOG) -> None:
        super().__init__(pki, LINE)
        self.delays = iter(delays)
        self.random = Random(3)
        self.backlog = backlog
        self.bytes_sent = 0
        self.drained_at = 0.0
        self.link.forward.on_send = self.count
        self.center.before_answer = self.work

    def count(self, _start: int, _duration: int, size: int) -> None:
        self.bytes_sent += size

    async def work(self) -> None:
        await asyncio.sleep(next(self.delays))

    async def fill(self) -> None:
        await self.routine(self.backlog)

    async def routine(self, records: int, first: int = 1) -> None:
        for start in range(first, first + records, 1000):
            numbers = range(start, min(start + 1000, first + records))
            reports = [
                messages.Quality(n, n * 1000, "glu", 1, int(self.random.gauss(0, 900))) for n in numbers
            ]
            entries = [messages.encode(messages.Entry("CHEM-1", 1, report)) for report in reports]
            await self.buffer.append_all([Priority.ROUTINE] * len(entries), entries)

    async def drained(self) -> None:
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            while (await self.buffer.status()).records[Priority.ROUTINE]:
                await asyncio.sleep(1)
        self.drained_at = self.loop.time()

    async def live(self) -> None:
        await self.drained()
