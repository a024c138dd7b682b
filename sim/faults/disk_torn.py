"""Half a write."""

from __future__ import annotations

from typing import Annotated

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.lab.values import CountForm


@fault("disk-torn", targets=("disk",), momentary=True, emulated=True)
class DiskTorn(Fault, frozen=True):
    """The power goes in the middle of one of the disk's coming operations; with `lasts` it comes back later."""

    operation: Annotated[int, CountForm(1, 1000)] = 1

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return await world.box.tear(self.operation)
