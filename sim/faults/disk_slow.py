"""A disk that has to try several times."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.lab.values import Nanoseconds


@fault("disk-slow", targets=("disk",), emulated=True)
class DiskSlow(Fault, frozen=True):
    """Each flush takes `flush`."""

    flush: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.box.slow_disk(self.flush)
