"""No room left."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("disk-full", targets=("disk",))
class DiskFull(Fault, frozen=True):
    """Something else takes all the room that the disk has left."""

    async def start(self, world: World, target: str) -> End:
        return world.box.fill_disk()
