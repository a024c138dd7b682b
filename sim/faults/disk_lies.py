"""A cache that calls itself a disk."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.lab.values import duration
from sim.units import SECOND_NS


@fault("disk-lies", targets=("disk",), emulated=True)
class DiskLies(Fault, frozen=True):
    """The disk reports flushes as done and keeps data in a volatile cache for `holds`: a power cut may lose it."""

    holds: Annotated[int, duration("1ms", "1h")] = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.box.lie_about_flushes(self.holds)
