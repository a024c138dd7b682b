"""The proxy's password was changed."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("proxy-refuses", targets=("proxy",))
class ProxyRefuses(Fault, frozen=True):
    """The proxy refuses to authenticate anybody (HTTP: 407); tunnels that are open are ended."""

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.refuse()
