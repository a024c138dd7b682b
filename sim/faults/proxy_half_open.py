"""The proxy that hears and says nothing."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("proxy-half-open", targets=("proxy",))
class ProxyHalfOpen(Fault, frozen=True):
    """The proxy takes what it is sent, forwards nothing and says nothing; its connections stay up."""

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.go_silent()
