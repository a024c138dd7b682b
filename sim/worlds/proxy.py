"""The proxy of a virtual lab's site."""

from __future__ import annotations

from typing import Final

from agents.proxy import Proxy
from sim import labfile
from sim.loop import SimLoop
from sim.net.host import Host, Network
from sim.proxies.http_connect import HttpConnectProxy
from sim.proxies.relay import Behavior, Tunnel
from sim.proxies.socks5 import Socks5Proxy
from sim.worlds.addresses import PROXY

NAME: Final = "proxy"
PORTS: Final = {"http": 3128, "socks5": 1080}
_CREDENTIALS: Final = ("rap-box", "clinic-proxy")


class SiteProxy:
    """A proxy as the lab file describes it; faults change its `behavior`."""

    def __init__(self, loop: SimLoop, network: Network, spec: labfile.Proxy) -> None:
        self.host = Host(network, NAME, PROXY)
        self.behavior = Behavior()
        self._loop = loop
        self._kind = spec.kind
        self._credentials = None if spec.auth == "none" else _CREDENTIALS

    async def start(self) -> None:
        """Listen."""
        await self.host.power_on().run(self._loop, self._listen())

    async def _listen(self) -> None:
        await self._loop.create_server(self._accept, NAME, PORTS[self._kind])

    def _accept(self) -> Tunnel:
        kind = HttpConnectProxy if self._kind == "http" else Socks5Proxy
        return kind(self.behavior, self._credentials)

    def for_clients(self) -> Proxy:
        """How a client is told to use it."""
        user, password = self._credentials or ("", "")
        return Proxy(self._kind, NAME, PORTS[self._kind], user, password)

    async def refuse(self, *, on: bool) -> None:
        """Let nobody through, whatever password they give; tunnels that are open are ended."""
        self.behavior.refuses = on
        if on:
            self.end_tunnels()

    async def go_silent(self, *, on: bool) -> None:
        """Take everything and answer nothing; at its end, tunnels are ended."""
        self.behavior.half_open = on
        if not on:
            self.end_tunnels()

    async def hold_back(self, seconds: float) -> None:
        """Hold everything back for so long, each way."""
        self.behavior.delay_s = seconds

    def end_tunnels(self) -> None:
        """End those that are open, without a word."""
        for tunnel in list(self.behavior.tunnels):
            tunnel.close()

    async def kill_idle_after(self, seconds: float | None) -> None:
        """From now on end tunnels that are idle for so long; None to stop that."""
        self.behavior.idle_s_max = seconds
        for tunnel in list(self.behavior.tunnels):
            tunnel.watch_idle()
