"""The proxy that inspects TLS."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("proxy-inspects", targets=("proxy",), emulated=True)
class ProxyInspects(Fault, frozen=True):
    """The proxy terminates TLS under a certificate of its own CA; tunnels that are open are ended."""

    async def start(self, world: EmulatedWorld, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.inspect()
