"""What says that records are gone does not wait for the next heartbeat, whoever's append brought it along."""

from __future__ import annotations

import asyncio

from agents.spool import Priority
from sim.net.link import Quality
from tests.agents.hierarchy import Hierarchy
from tests.agents.uplinked import World
from wire import messages


class Rotten(World):
    """A routine report rots while it waits for company, and the forwarder finds that out when it reads it."""

    async def report(self, number: int) -> None:
        entry = messages.Entry("CHEM-1", 1, messages.Quality(number, 0, "glu", 1, 0))
        await self.buffer.append(Priority.ROUTINE, messages.encode(entry))

    def rot(self) -> None:
        (name,) = [name for name in self.disk.names() if b"CHEM-1" in self.disk.read(name, 0, 1 << 20)]
        self.disk.backend.rot(name, self.disk.read(name, 0, 1 << 20).index(b"CHEM-1"), bits=512)

    def gaps(self) -> list[messages.Gap]:
        return [e.body for e in self.center.stored.values() if isinstance(e.body, messages.Gap)]

    async def live(self) -> None:
        await self.center.until(lambda: self.center.audits == ["uplink-restored"])
        await self.report(1)
        self.rot()
        await self.report(2)
        await asyncio.sleep(60)
        assert [number for *_, number in self.center.reports] == [2]
        assert (await self.buffer.status()).gaps_pending == 1 and not self.gaps()
        await self.report(3)
        await asyncio.sleep(2)
        assert [gap.records for gap in self.gaps()] == [1]


def test_a_gap_record_of_a_routine_append_goes_at_once(pki: Hierarchy) -> None:
    Rotten(pki, Quality(128_000, 40_000_000)).run()
