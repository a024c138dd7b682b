"""Half-open connections at the proxy."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("proxy-half-open", targets=("proxy",))
class ProxyHalfOpen(Fault[World], frozen=True):
    """The proxy accepts connections and data, but forwards and answers nothing; its connections stay open."""

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.go_silent()
