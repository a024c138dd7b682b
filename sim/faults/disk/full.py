"""Full disk."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("disk-full", targets=("disk",))
class DiskFull(Fault[World], frozen=True):
    """Data of other programs fills the disk."""

    async def start(self, world: World, target: str) -> End:
        return await world.box.fill_disk()
