"""Authentication refused by the proxy."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("proxy-refuses", targets=("proxy",))
class ProxyRefuses(Fault[World], frozen=True):
    """The proxy rejects all credentials (HTTP: 407); open tunnels are closed."""

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.refuse()
