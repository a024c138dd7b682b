"""Failing disk writes."""

from __future__ import annotations

from typing import Annotated

from sim.engine.layers import nothing_to_end
from sim.faults import RECOVERY_NS, End, Fault, fault
from sim.faults.disk.flush_fails import RETRY_NS
from sim.faults.world import MachineWorld
from sim.values import CountForm


@fault("disk-write-fails", targets=("disk",), momentary=True)
class DiskWriteFails(Fault[MachineWorld], frozen=True):
    """The next `times` writes fail, and change nothing.

    In the image world, these are writes to the partition with the reports, those of its file system included: see
    `disk-flush-fails`.
    """

    times: Annotated[int, CountForm(1, 1000)] = 1

    @property
    def recovery_ns(self) -> int:
        return RECOVERY_NS + self.times * RETRY_NS

    async def start(self, world: MachineWorld, target: str) -> End:
        world.box.fail_writes(self.times)
        return nothing_to_end
