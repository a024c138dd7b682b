"""Disk that acknowledges flushes before its data is durable."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import MachineWorld
from sim.units import SECOND_NS
from sim.values import duration


@fault("disk-lies", targets=("disk",))
class DiskLies(Fault[MachineWorld], frozen=True):
    """The disk acknowledges flushes while data stays in its volatile cache for `holds`: a power cut may lose it."""

    holds: Annotated[int, duration("1ms", "1h")] = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: MachineWorld, target: str) -> End:
        return world.box.lie_about_flushes(self.holds)
