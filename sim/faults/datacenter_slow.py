"""A busy data center."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.lab.values import Nanoseconds


@fault("datacenter-slow", targets=("datacenter",), emulated=True)
class DatacenterSlow(Fault, frozen=True):
    """The data center takes `delay` before it looks at a batch."""

    delay: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.think(self.delay)
