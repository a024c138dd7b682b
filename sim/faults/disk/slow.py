"""Slow disk flushes."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import MachineWorld
from sim.values import Nanoseconds


@fault("disk-slow", targets=("disk",))
class DiskSlow(Fault[MachineWorld], frozen=True):
    """Each flush takes `flush`."""

    flush: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: MachineWorld, target: str) -> End:
        return world.box.slow_disk(self.flush)
