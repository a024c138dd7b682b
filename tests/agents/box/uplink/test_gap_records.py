"""Gap records are sent immediately, not with the next heartbeat."""

from __future__ import annotations

import asyncio

from agents.spool import Priority
from sim.net.link import LinkQuality
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from wire import messages


class DamagedReport(World):
    """A waiting routine report is damaged on the disk, which the forwarder detects when it reads the report."""

    async def report(self, number: int) -> None:
        entry = messages.Entry("CHEM-1", 1, messages.Quality(number, 0, "glu", 1, 0))
        await self.buffer.append(Priority.ROUTINE, messages.encode(entry))

    def damage_last_report(self) -> None:
        offsets = {
            name: self.disk.read(name, 0, self.disk.size(name)).rfind(b"CHEM-1") for name in self.disk.names()
        }
        name, offset = max(offsets.items(), key=lambda item: item[1])
        self.disk.backend.flip_bits(name, offset, bits=512)

    async def fill(self) -> None:
        await self.report(1)

    async def live(self) -> None:
        await self.center.until(lambda: self.center.audits == ["uplink-restored"])
        await self.report(2)
        self.damage_last_report()
        await self.report(3)
        await asyncio.sleep(60)
        assert [number for *_, number in self.center.reports] == [1, 3]
        assert (await self.buffer.status()).gaps_pending == 1 and not self.center.gaps
        await self.report(4)
        await asyncio.sleep(2)
        assert [gap.records for gap in self.center.gaps] == [1]


def test_a_gap_record_of_a_routine_append_is_sent_immediately(pki: Hierarchy) -> None:
    DamagedReport(pki, LinkQuality(128_000, 40_000_000)).run()
