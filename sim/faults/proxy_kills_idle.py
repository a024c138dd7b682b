"""The proxy with little patience."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.lab.values import Nanoseconds
from sim.units import SECOND_NS


@fault("proxy-kills-idle", targets=("proxy",))
class ProxyKillsIdle(Fault, frozen=True):
    """The proxy ends tunnels through which nothing went for `after`."""

    after: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.kill_idle_after(self.after / SECOND_NS)
