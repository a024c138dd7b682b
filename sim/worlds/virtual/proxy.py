"""The site's proxy in the virtual world, with faults."""

from __future__ import annotations

from sim.engine.layers import End, Layers
from sim.lab import labfile
from sim.net.host import Network, SimHost
from sim.net.loop import SimLoop
from sim.proxies.inspection import inspecting_context
from sim.proxies.kind import proxy_kind
from sim.proxies.relay import Behavior, ProxyTunnel
from sim.worlds.shared.site.addresses import PROXY, PROXY_NAME
from wire.tls.context import Identity


class VirtualProxy:
    """The proxy described by the lab file; faults change its `behavior`."""

    def __init__(self, loop: SimLoop, network: Network, spec: labfile.LabProxy, inspector: Identity) -> None:
        """`inspector` is the certificate presented to clients during TLS inspection."""
        self._inspector = inspector
        self._folder = inspector.certificate.parent
        self.host = SimHost(network, PROXY_NAME, PROXY)
        self.behavior = Behavior()
        self._loop = loop
        self._kind, self._auth = proxy_kind(spec.kind), spec.auth
        self._refusals = Layers[None](self._behave)
        self._inspections = Layers[None](self._behave)
        self._silences = Layers[None](self._behave)
        self._idle_s_max = Layers[float](self._behave)
        self._delays_s = Layers[float](self._behave)

    async def start(self) -> None:
        """Start to listen."""
        await self.host.power_on().run(self._loop, self._listen())

    async def _listen(self) -> None:
        await self._loop.create_server(self._accept, PROXY_NAME, self._kind.port)

    def _accept(self) -> ProxyTunnel:
        return self._kind.accept(self.behavior, self._auth, self._folder)

    # -- faults: see `sim.faults.world`

    async def refuse(self) -> End:
        """Reject all credentials until every such effect has ended; open tunnels are closed."""
        end = self._refusals.add(None)
        self.end_tunnels()
        return end

    async def inspect(self) -> End:
        """Terminate TLS with a certificate from another CA until every such effect has ended.

        Open tunnels are closed at the start and at the end, as after a change of the proxy's configuration.
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
        """Close tunnels that are idle for `seconds`; the shortest of several times applies."""
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
