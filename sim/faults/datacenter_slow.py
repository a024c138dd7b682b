"""A busy data center."""

from __future__ import annotations

from sim.faults import Fault, World, fault
from sim.units import SECOND_NS
from sim.values import Nanoseconds


@fault("datacenter-slow", targets=("datacenter",), emulated=True)
class DatacenterSlow(Fault, frozen=True):
    """The data center takes `delay` before it looks at a batch."""

    delay: Nanoseconds

    async def start(self, world: World, target: str) -> None:
        world.datacenter.delay_s = self.delay / SECOND_NS

    async def stop(self, world: World, target: str) -> None:
        world.datacenter.delay_s = 0.0
