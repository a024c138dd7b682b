"""A large backlog over a slow uplink, in simulated time: the link is busy, and alerts are still delivered fast."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from agents.spool import Priority
from sim.net.link import LinkQuality
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from wire import messages

BACKLOG = 12_000


class Backlogged(World):
    """Raises an alert 1.3 seconds after the delivery of the previous one while the backlog is sent."""

    def __init__(self, pki: Hierarchy, uplink: LinkQuality) -> None:
        super().__init__(pki, uplink)
        self.sent: list[tuple[int, int]] = []
        self.link.forward.on_send = lambda start, duration, _bytes: self.sent.append((start, duration))
        self.latencies: list[float] = []

    async def fill(self) -> None:
        random = Random(3)
        for first in range(0, BACKLOG, 1000):
            reports = [
                messages.Quality(n, n * 1000, random.choice(["glu", "na", "k"]), 1, int(random.gauss(0, 900)))
                for n in range(first + 1, first + 1001)
            ]
            entries = [messages.encode(messages.Entry("CHEM-1", 1, report)) for report in reports]
            await self.buffer.append_all([Priority.ROUTINE] * len(entries), entries)

    async def live(self) -> None:
        number = BACKLOG
        while (await self.buffer.status()).records[Priority.ROUTINE]:
            await asyncio.sleep(1.3)
            number += 1
            await self.alert(number)

    async def alert(self, number: int) -> None:
        raised_at = self.loop.time()
        alert = messages.Alert(number, 0, "L0100", "lamp", "error")
        await self.buffer.append(Priority.ALERT, messages.encode(messages.Entry("CHEM-1", 1, alert)))
        await self.center.until(lambda: self.center.alerts[-1:] == [number])
        self.latencies.append(self.loop.time() - raised_at)

    def busy(self, start_s: float, end_s: float) -> float:
        """Return the fraction of this interval in which the uplink was sending; a transmission counts if it begins
        in the interval.
        """
        durations = [duration for start, duration in self.sent if start_s * 1e9 <= start < end_s * 1e9]
        return sum(durations) / ((end_s - start_s) * 1e9)


@pytest.mark.parametrize(
    ("rate_bits", "delay_ms", "settled_s", "alert_s_max"),
    [(128_000, 40, 2.0, 1.2), (128_000, 300, 5.0, 1.6), (64_000, 600, 8.0, 2.5)],
)
def test_the_link_is_busy_and_alerts_overtake(
    pki: Hierarchy, rate_bits: int, delay_ms: int, settled_s: float, alert_s_max: float
) -> None:
    world = Backlogged(pki, LinkQuality(rate_bits, delay_ms * 1_000_000, 10_000_000))
    world.run()
    assert len(world.center.reports) == BACKLOG + len(world.latencies)
    assert world.center.repeated == 0
    full_packet = max(duration for _, duration in world.sent)
    drained_s = max(start for start, duration in world.sent if duration == full_packet) / 1e9
    assert drained_s > settled_s + 2
    assert world.busy(settled_s, drained_s) > 0.97
    assert max(world.latencies) < alert_s_max
