"""Bits that change by themselves."""

from __future__ import annotations

from typing import Annotated

from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.lab.values import CountForm


@fault("disk-rot", targets=("disk",), momentary=True, emulated=True)
class DiskRot(Fault, frozen=True):
    """Some bits flip in each of some sectors that hold data."""

    sectors: Annotated[int, CountForm(1, 10_000)] = 1
    bits: Annotated[int, CountForm(1, 4096)] = 1

    async def start(self, world: EmulatedWorld, target: str) -> End:
        world.box.rot(self.sectors, self.bits)
        return nothing_to_end
