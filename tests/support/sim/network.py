"""Two simulated hosts and a link between them, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from sim.engine.streams import stream
from sim.net.host import Network, SimHost
from sim.net.link import Link, LinkQuality
from sim.net.loop import SimLoop

CLINIC = LinkQuality(rate_bits=128_000, delay_ns=40_000_000, jitter_ns=10_000_000)
LAN = LinkQuality(rate_bits=100_000_000, delay_ns=100_000)


class Pair:
    """Hosts "a" and "b", both powered on, and the link between them."""

    def __init__(self, quality: LinkQuality = LAN, seed: int = 1) -> None:
        self.loop = SimLoop()
        self.network = Network()
        self.a, self.b = SimHost(self.network, "a"), SimHost(self.network, "b")
        self.link = Link(self.loop.env, "line", quality, stream(seed, "link line"))
        self.network.connect(self.a, self.b, self.link)
        self.a.power_on()
        self.b.power_on()

    def on(self, host: SimHost, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        assert host.incarnation is not None
        return host.incarnation.run(self.loop, coro)

    def run(self, host: SimHost, coro: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(self.on(host, coro))


class Recorder(asyncio.Protocol):
    """A protocol that records received data and events, and can echo the data."""

    def __init__(self, *, echo: bool = False) -> None:
        self.received = bytearray()
        self.echo = echo
        self.half_open = False
        """Whether the connection stays open after the peer has closed it."""
        self.lost: list[BaseException | None] = []
        self.eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.echo:
            self.transport.write(data)

    def eof_received(self) -> bool:
        self.eof = True
        return self.half_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
