"""A huge backlog over a slow uplink, in virtual time: the link is busy, and an alert still comes through."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from agents.audit import AuditLog, encode_gap
from agents.buffer import Buffer
from agents.dial import FarEnd
from agents.forwarder import Forwarder
from agents.spool import Gap, Priority, Spool, SpoolLimits
from agents.stream import Timing
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.emul.ethernet import EmulEthernetPort
from sim.loop import SimLoop
from sim.net.host import Host, Network
from sim.net.link import Link, Quality
from tests.agents.hierarchy import Hierarchy
from tests.agents.stand_in import StandIn
from wire import messages
from wire.http import serve
from wire.tls import client_context, server_context

BACKLOG = 12_000


class World:
    """A box, an uplink and a data center, which is called "localhost" because its certificate says so."""

    def __init__(self, pki: Hierarchy, uplink: Quality) -> None:
        self.pki = pki
        self.loop = SimLoop()
        network = Network()
        self.box, self.datacenter = Host(network, "box"), Host(network, "localhost")
        self.link = Link(self.loop.env, "uplink", uplink, Random(1))
        network.connect(self.box, self.datacenter, self.link)
        self.clock = EmulClock(lambda: 1_700_000_000_000_000_000 + self.loop.env.now)
        self.center = StandIn()
        self.sent: list[tuple[int, int]] = []
        self.link.forward.on_send = lambda start, duration, _bytes: self.sent.append((start, duration))
        self.latencies: list[float] = []

    def run(self) -> None:
        for host, program in ((self.datacenter, self.serve()), (self.box, self.forward())):
            self.loop.run_until_complete(host.power_on().run(self.loop, program))
        assert self.loop.failures == []

    async def serve(self) -> None:
        await serve(
            self.center.handle,
            "localhost",
            443,
            tls=server_context(self.pki.datacenter),
            body_bytes_max=messages.BATCH_BODY_BYTES_MAX,
            now=lambda: self.clock.now_ns() / 1e9,
        )

    async def forward(self) -> None:
        self.buffer = Buffer(self.spool())
        await self.fill()
        forwarder = Forwarder(
            self.buffer,
            FarEnd("localhost", 443),
            client_context(self.pki.box),
            proxy=None,
            uplink=EmulEthernetPort("uplink"),
            audit=AuditLog(self.buffer, self.clock),
            on_commands=self.ignore,
            random=Random(2),
            timing=Timing(),
        )
        task = asyncio.ensure_future(forwarder.run())
        number = BACKLOG
        while (await self.buffer.status()).records[Priority.ROUTINE]:
            await asyncio.sleep(1.3)
            number += 1
            await self.alert(number)
        task.cancel()

    def spool(self) -> Spool:
        def gap(gap: Gap) -> bytes:
            return encode_gap(gap, self.clock)

        return Spool.open(EmulDisk(256 << 20, Random(1)), SpoolLimits(), random=Random(1), encode_gap=gap)

    async def fill(self) -> None:
        random = Random(3)
        for first in range(0, BACKLOG, 1000):
            reports = [
                messages.Quality(n, n * 1000, random.choice(["glu", "na", "k"]), 1, int(random.gauss(0, 900)))
                for n in range(first + 1, first + 1001)
            ]
            entries = [messages.encode(messages.Entry("CHEM-1", 1, report)) for report in reports]
            await self.buffer.append_all([Priority.ROUTINE] * len(entries), entries)

    async def alert(self, number: int) -> None:
        raised_at = self.loop.time()
        alert = messages.Alert(number, 0, "E0001", "lamp", "error")
        await self.buffer.append(Priority.ALERT, messages.encode(messages.Entry("CHEM-1", 1, alert)))
        await self.center.until(lambda: self.center.alerts[-1:] == [number])
        self.latencies.append(self.loop.time() - raised_at)

    async def ignore(self, _commands: list[messages.Command]) -> None:
        """No command comes."""

    def busy(self, start_s: float, end_s: float) -> float:
        """Which part of that time the uplink was sending, counting what begins in it."""
        durations = [duration for start, duration in self.sent if start_s * 1e9 <= start < end_s * 1e9]
        return sum(durations) / ((end_s - start_s) * 1e9)


@pytest.mark.parametrize(
    ("rate_bits", "delay_ms", "settled_s", "alert_s_max"),
    [(128_000, 40, 2.0, 1.2), (128_000, 300, 5.0, 1.6), (64_000, 600, 8.0, 2.5)],
)
def test_the_link_is_busy_and_alerts_overtake(
    pki: Hierarchy, rate_bits: int, delay_ms: int, settled_s: float, alert_s_max: float
) -> None:
    world = World(pki, Quality(rate_bits, delay_ms * 1_000_000, 10_000_000))
    world.run()
    assert len(world.center.reports) == BACKLOG + len(world.latencies)
    assert world.center.repeated == 0
    full_packet = max(duration for _, duration in world.sent)
    drained_s = max(start for start, duration in world.sent if duration == full_packet) / 1e9
    assert drained_s > settled_s + 2
    assert world.busy(settled_s, drained_s) > 0.97
    assert max(world.latencies) < alert_s_max
