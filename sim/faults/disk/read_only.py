"""Disk remounted read-only after an error."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import SimulatedDiskWorld


@fault("disk-read-only", targets=("disk",))
class DiskReadOnly(Fault[SimulatedDiskWorld], frozen=True):
    """The disk can be read, but rejects every write."""

    async def start(self, world: SimulatedDiskWorld, target: str) -> End:
        return world.box.make_disk_read_only()
