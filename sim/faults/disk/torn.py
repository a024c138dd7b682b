"""Torn write: power loss during a disk operation."""

from __future__ import annotations

from typing import Annotated

from sim.faults import End, Fault, fault
from sim.faults.world import MachineWorld
from sim.values import CountForm


@fault("disk-torn", targets=("disk",), momentary=True)
class DiskTorn(Fault[MachineWorld], frozen=True):
    """The box loses power in the middle of the `operation`-th disk operation from now on; power returns at once or \
after `lasts`."""

    operation: Annotated[int, CountForm(1, 1000)] = 1

    async def start(self, world: MachineWorld, target: str) -> End:
        return await world.box.tear(self.operation)
