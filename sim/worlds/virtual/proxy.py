"""The site's proxy in the virtual world, with faults."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from sim.engine.layers import End, Layers
from sim.lab import labfile
from sim.net.host import Network, SimHost
from sim.net.loop import SimLoop
from sim.proxies.http_auth import AcceptAllVerifier, BasicVerifier, DigestVerifier, SpnegoVerifier
from sim.proxies.http_connect import HttpConnectProxy
from sim.proxies.inspection import inspecting_context
from sim.proxies.relay import Behavior, ProxyTunnel
from sim.proxies.socks5 import Socks5Proxy
from sim.proxies.spnego import set_workstation, write_passwords
from sim.worlds.shared.addresses import BOX_NAME, PROXY, PROXY_NAME, PROXY_PORTS
from sim.worlds.shared.proxy import DOMAIN, PASSWORD, USER
from wire.tls.context import Identity

_CREDENTIALS: Final = (USER, PASSWORD)
_AUTH: Final[dict[str, Callable[[Path], AcceptAllVerifier]]] = {
    "none": lambda _: AcceptAllVerifier(),
    "basic": lambda _: BasicVerifier(_CREDENTIALS),
    "digest": lambda _: DigestVerifier(_CREDENTIALS),
    "ntlm": partial(SpnegoVerifier, "ntlm"),
    "negotiate": partial(SpnegoVerifier, "negotiate"),
}
"""The authentication of a connection; NTLM and Negotiate read passwords from a file."""


class VirtualProxy:
    """The proxy described by the lab file; faults change its `behavior`."""

    def __init__(self, loop: SimLoop, network: Network, spec: labfile.LabProxy, inspector: Identity) -> None:
        """`inspector` is the certificate presented to clients during TLS inspection."""
        self._inspector = inspector
        self._passwords = inspector.certificate.with_name("passwords")
        set_workstation(BOX_NAME)  # the machine's name must not be in the trace
        write_passwords(self._passwords, DOMAIN, USER, PASSWORD)
        self.host = SimHost(network, PROXY_NAME, PROXY)
        self.behavior = Behavior()
        self._loop = loop
        self._kind, self._auth = spec.kind, spec.auth
        self._refusals = Layers[None](self._behave)
        self._inspections = Layers[None](self._behave)
        self._silences = Layers[None](self._behave)
        self._idle_s_max = Layers[float](self._behave)
        self._delays_s = Layers[float](self._behave)
        self._credentials = None if spec.auth == "none" else _CREDENTIALS

    async def start(self) -> None:
        """Start to listen."""
        await self.host.power_on().run(self._loop, self._listen())

    async def _listen(self) -> None:
        await self._loop.create_server(self._accept, PROXY_NAME, PROXY_PORTS[self._kind])

    def _accept(self) -> ProxyTunnel:
        if self._kind == "http":
            return HttpConnectProxy(self.behavior, _AUTH[self._auth](self._passwords))
        return Socks5Proxy(self.behavior, self._credentials)

    # -- faults: see `sim.faults.world`

    async def refuse(self) -> End:
        """Reject all credentials until every such effect has ended; open tunnels are closed."""
        end = self._refusals.add(None)
        self.end_tunnels()
        return end

    async def inspect(self) -> End:
        """Terminate TLS with a certificate of its own CA until every such effect has ended.

        Open tunnels are closed at the start and at the end, as by a change of the proxy's configuration.
        """
        end = self._inspections.add(None)
        self.end_tunnels()
        return end

    async def go_silent(self) -> End:
        """Discard received data until every such effect has ended; then tunnels are closed."""
        return self._silences.add(None)

    async def hold_back(self, seconds: float) -> End:
        """Delay data by `seconds` in each direction; several delays add up."""
        return self._delays_s.add(seconds)

    async def kill_idle_after(self, seconds: float) -> End:
        """Close tunnels that are idle for `seconds`; of several times the shortest applies."""
        return self._idle_s_max.add(seconds)

    def end_tunnels(self) -> None:
        """Close all open tunnels."""
        for tunnel in list(self.behavior.tunnels):
            tunnel.close()

    def _behave(self) -> None:
        """Apply all effects to `behavior` and to the open tunnels."""
        behavior = self.behavior
        behavior.refuses = bool(self._refusals)
        if (behavior.half_open and not self._silences) or (behavior.inspector and not self._inspections):
            self.end_tunnels()
        behavior.inspector = inspecting_context(self._inspector) if self._inspections else None
        behavior.half_open = bool(self._silences)
        behavior.idle_s_max = min(self._idle_s_max, default=None)
        behavior.delay_s = sum(self._delays_s)
        for tunnel in list(behavior.tunnels):
            tunnel.apply_behavior()
