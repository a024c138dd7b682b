"""Failing disk reads."""

from __future__ import annotations

from typing import Annotated

from sim.engine.layers import nothing_to_end
from sim.faults import Effect, End, Fault, fault
from sim.faults.world import MachineWorld
from sim.values import CountForm


@fault("disk-read-fails", targets=("disk",), momentary=True)
class DiskReadFails(Fault[MachineWorld], frozen=True):
    """The next `times` reads fail. Reports that the box cannot read are dropped, and named in a gap record.

    In the image world, these are reads of the partition with the reports, those of its file system included. Data
    that the system has cached in memory is not read from the disk.
    """

    times: Annotated[int, CountForm(1, 1000)] = 1

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: MachineWorld, target: str) -> End:
        world.box.fail_reads(self.times)
        return nothing_to_end
