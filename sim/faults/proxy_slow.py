"""The proxy that inspects everything."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.lab.values import Nanoseconds
from sim.units import SECOND_NS


@fault("proxy-slow", targets=("proxy",))
class ProxySlow(Fault, frozen=True):
    """The proxy holds everything back for `delay`, in both directions."""

    delay: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.hold_back(self.delay / SECOND_NS)
