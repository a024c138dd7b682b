"""A box's buffer and forwarder, an uplink and a data center in simulated time, without instruments."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

from agents.box.buffer import Buffer
from agents.box.clock_sync import ClockSync
from agents.box.files.requests import RequestQueue
from agents.box.health.audit import AuditLog, encode_gap
from agents.box.uplink.batching import Timing
from agents.box.uplink.forwarder import Forwarder
from agents.spool import Spool, SpoolGap, SpoolLimits
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.emul.ethernet import EmulEthernetPort
from settings.types import Endpoint, Proxy
from sim.net.host import Network, SimHost
from sim.net.link import Link, LinkQuality
from sim.net.loop import SimLoop
from tests.support.agents.stand_in import StandIn
from tests.support.crypto.hierarchy import Hierarchy
from wire import messages
from wire.http.connection import serve
from wire.tls.context import client_context, server_context

LIVE_SECONDS_MAX: Final = 24 * 3600.0


class World:
    """A box's uplink and a data center, which is "localhost" as in its certificate. Tests override `live`.

    `live` may take `live_s_max` seconds of simulated time; then it fails with TimeoutError.
    """

    live_s_max = LIVE_SECONDS_MAX

    def __init__(self, pki: Hierarchy, uplink: LinkQuality) -> None:
        self.pki = pki
        self.loop = SimLoop()
        self.network = network = Network()
        self.box, self.datacenter = SimHost(network, "box"), SimHost(network, "localhost")
        self.link = Link(self.loop.env, "uplink", uplink, Random(1))
        network.connect(self.box, self.datacenter, self.link)
        self.clock = EmulClock(lambda: 1_700_000_000_000_000_000 + self.loop.env.now)
        self.center = StandIn()
        self.disk = EmulDisk(256 << 20, Random(1))
        self.uplink = EmulEthernetPort("uplink")
        self.proxy: Proxy | None = None
        self.far_end = Endpoint("localhost", 443)

    def run(self) -> None:
        for host, program in ((self.datacenter, self.serve()), (self.box, self.forward())):
            self.loop.run_until_complete(host.power_on().run(self.loop, program))
        assert self.loop.failures == []

    async def serve(self) -> None:
        self.center.server = await serve(
            self.center.handle,
            "localhost",
            443,
            tls=server_context(self.pki.datacenter),
            body_bytes_max=messages.BATCH_BODY_BYTES_MAX,
            now=lambda: self.clock.now_ns() / 1e9,
        )

    async def forward(self) -> None:
        self.open_buffer()
        await self.fill()
        self.start_forwarder()
        async with asyncio.timeout(self.live_s_max):
            await self.live()
        self.forwarding.cancel()

    def open_buffer(self) -> None:
        self.buffer = Buffer(self.spool())

    def start_forwarder(self) -> None:
        self.forwarder = Forwarder(
            self.buffer,
            self.far_end,
            client_context(self.pki.box),
            proxy=self.proxy,
            uplink=self.uplink,
            audit=AuditLog(self.buffer, self.clock),
            on_commands=self.commands_arrived,
            on_withdrawn=lambda _commands: None,
            on_sessions=lambda: None,
            random=Random(2),
            timing=Timing(),
            clock=self.clock,
            clock_sync=self.clock_sync(),
            requests=self.requests(),
        )
        self.forwarding = asyncio.ensure_future(self.forwarder.run())

    async def restart(self) -> None:
        """Restart the box program on the same disk."""
        self.forwarding.cancel()
        await self.buffer.close()
        self.open_buffer()
        self.start_forwarder()

    async def fill(self) -> None:
        """Store the initial records in the buffer, before the forwarder runs."""

    async def live(self) -> None:
        """The actions of the test while the forwarder runs."""
        raise NotImplementedError

    def spool(self) -> Spool:
        def gap(gap: SpoolGap) -> bytes:
            return encode_gap(gap, self.clock)

        return Spool.open(self.disk, SpoolLimits(), random=Random(1), encode_gap=gap)

    def clock_sync(self) -> ClockSync | None:
        """Return the clock correction; None unless a test overrides it."""
        return None

    def requests(self) -> RequestQueue | None:
        """Return the requests to send besides reports; None unless a test overrides it."""
        return None

    def commands_arrived(self, commands: list[messages.Command]) -> None:
        """Handle commands from the data center; ignored unless a test overrides it."""
