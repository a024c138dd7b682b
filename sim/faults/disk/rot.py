"""Bit rot."""

from __future__ import annotations

from typing import Annotated

from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.values import CountForm


@fault("disk-rot", targets=("disk",), momentary=True)
class DiskRot(Fault[EmulatedWorld], frozen=True):
    """`bits` bits flip in each of `sectors` sectors that hold data."""

    sectors: Annotated[int, CountForm(1, 10_000)] = 1
    bits: Annotated[int, CountForm(1, 4096)] = 1

    async def start(self, world: EmulatedWorld, target: str) -> End:
        world.box.flip_bits(self.sectors, self.bits)
        return nothing_to_end
