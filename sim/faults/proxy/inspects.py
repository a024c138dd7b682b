"""TLS inspection by the proxy."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("proxy-inspects", targets=("proxy",))
class ProxyInspects(Fault[World], frozen=True):
    """The proxy terminates TLS with a certificate from another CA; open tunnels are closed."""

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.inspect()
