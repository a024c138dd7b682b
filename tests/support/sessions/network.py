"""A simulated network for sessions: a box with an instrument, and a data center with the listener of its tunnels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from datacenter.tunnel.listener import TunnelListener
from settings.types import Endpoint, Proxy
from sim.engine.streams import stream
from sim.net.host import Network, SimHost
from sim.net.link import Link, LinkQuality
from sim.net.loop import SimLoop
from sim.tunnel.box import EmulTunnel
from sim.tunnel.datacenter import EmulEndpoint
from sim.tunnel.path import EmulPath
from tests.support.wire.grants import ISSUED
from wire.session.grant import Offer

TUNNEL_ADDRESS = Endpoint("datacenter", 443)
DESKTOP = 5900
GREETING = b"RFB 003.008\n"


class Desktop(asyncio.Protocol):
    """The desktop of an instrument, which sends a greeting, and keeps the bytes that it receives."""

    def __init__(self, desktops: list[Desktop]) -> None:
        self._desktops = desktops
        self.received = b""
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._desktops.append(self)
        self.transport = transport
        transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


class SessionNetwork:
    """The hosts, and the tunnels, endpoints and desktop connections that were created. `on_box` runs code of the box,
    `on_datacenter` code of the data center.
    """

    def __init__(self, loop: SimLoop, delay_ns: int = 10_000_000, proxy: Proxy | None = None) -> None:
        self._loop, self._proxy = loop, proxy
        self.network = Network()
        self.box, self.datacenter, self.instrument = (
            SimHost(self.network, name) for name in ("box", "datacenter", "instrument")
        )
        self.line = self._join(self.box, self.datacenter, LinkQuality(rate_bits=1_000_000, delay_ns=delay_ns))
        self._join(self.box, self.instrument, LinkQuality(rate_bits=100_000_000, delay_ns=100_000))
        for host in (self.box, self.datacenter, self.instrument):
            host.power_on()
        self.listener = TunnelListener()
        self.path = EmulPath(now_ns=lambda: loop.env.now)
        self.tunnels: list[EmulTunnel] = []
        self.endpoints: list[EmulEndpoint] = []
        self.desktops: list[Desktop] = []
        self.clock_error_s = 0.0
        """How many seconds the box's wall clock is ahead."""

    async def start(self) -> None:
        """Start the tunnel listener and the server of the instrument's desktop."""
        await self._on(
            self.datacenter,
            self._loop.create_server(self.listener.accept, TUNNEL_ADDRESS.host, TUNNEL_ADDRESS.port),
        )
        greet = self._loop.create_server(lambda: Desktop(self.desktops), "instrument", DESKTOP)
        await self._on(self.instrument, greet)

    def on_box(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run code of the box."""
        return self._on(self.box, work)

    def on_datacenter(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run code of the data center."""
        return self._on(self.datacenter, work)

    def wall_ns(self) -> int:
        """Return the true time in nanoseconds since 1970."""
        return int((ISSUED + self._loop.time()) * 1e9)

    def box_wall_ns(self) -> int:
        """Return the time of the box's wall clock in nanoseconds since 1970."""
        return self.wall_ns() + int(self.clock_error_s * 1e9)

    def make_tunnel(self) -> EmulTunnel:
        """Create the box's end of a tunnel."""
        self.tunnels.append(EmulTunnel(self.path, self._connect, self.box_wall_ns, self._proxy))
        return self.tunnels[-1]

    def make_endpoint(self, offer: Offer, key: EllipticCurvePrivateKey) -> EmulEndpoint:
        """Create the data center's end of a tunnel."""
        self.endpoints.append(EmulEndpoint(offer.id, key, self.listener, self.wall_ns))
        return self.endpoints[-1]

    async def _connect(self, offer: Offer, protocol: asyncio.Protocol) -> None:
        await self._loop.create_connection(lambda: protocol, "instrument", offer.tcp_port)

    def _join(self, one: SimHost, other: SimHost, quality: LinkQuality) -> Link:
        link = Link(self._loop.env, f"{one.name} {other.name}", quality, stream(1, other.name))
        self.network.connect(one, other, link)
        return link

    def _on(self, host: SimHost, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        assert host.incarnation is not None
        return host.incarnation.run(self._loop, work)


def run_at_box(loop: SimLoop, act: Callable[[], Coroutine[Any, Any, Any]], box: SimHost) -> Any:
    """Run code of the box to its end."""
    assert box.incarnation is not None
    result = loop.run_until_complete(box.incarnation.run(loop, act()))
    assert not loop.failures
    return result
