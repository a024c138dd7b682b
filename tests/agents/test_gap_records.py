"""What says that records are gone does not wait for the next heartbeat, whoever's append brought it along."""

from __future__ import annotations

import asyncio
from itertools import count

from agents.spool import Priority
from sim.net.link import Quality
from tests.agents.hierarchy import Hierarchy
from tests.agents.uplinked import World
from wire import messages


class Rotten(World):
    """A routine report has rotted in the buffer; the forwarder finds that out when it reads it."""

    numbers = count(1)

    async def fill(self) -> None:
        await self.report()
        (name,) = [name for name in self.disk.names() if b"CHEM-1" in self.disk.read(name, 0, 1 << 20)]
        self.disk.backend.rot(name, self.disk.read(name, 0, 1 << 20).index(b"CHEM-1"), bits=512)
        await self.report()

    async def report(self) -> None:
        report = messages.Quality(next(self.numbers), 0, "glu", 1, 0)
        entry = messages.encode(messages.Entry("CHEM-1", 1, report))
        await self.buffer.append(Priority.ROUTINE, entry)

    async def live(self) -> None:
        await self.center.until(lambda: len(self.center.reports) == 1)
        assert (await self.buffer.status()).gaps_pending == 1
        await asyncio.sleep(20)
        await self.report()
        appended_at = self.loop.time()
        await self.center.until(
            lambda: any(isinstance(e.body, messages.Gap) for e in self.center.stored.values())
        )
        self.waited_s = self.loop.time() - appended_at


def test_a_gap_record_of_a_routine_append_goes_at_once(pki: Hierarchy) -> None:
    world = Rotten(pki, Quality(128_000, 40_000_000))
    world.run()
    assert world.waited_s < 2
