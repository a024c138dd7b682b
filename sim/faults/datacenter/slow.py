"""Slow data center."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.values import Nanoseconds


@fault("datacenter-slow", targets=("datacenter",))
class DatacenterSlow(Fault[EmulatedWorld], frozen=True):
    """The data center waits `delay` before it processes a batch."""

    delay: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.delay_processing(self.delay)
