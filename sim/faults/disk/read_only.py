"""Disk remounted read-only after an error."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("disk-read-only", targets=("disk",))
class DiskReadOnly(Fault[World], frozen=True):
    """The disk can be read, but rejects every write.

    In the kernel and the image world the box reboots after the fault has ended, because Linux no longer writes to a
    file system after an error. The box in an image detects this itself, at the earliest two minutes after its last
    start.
    """

    async def start(self, world: World, target: str) -> End:
        return world.box.make_disk_read_only()
