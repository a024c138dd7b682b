"""Half a write."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Fault, World, fault
from sim.values import Count


@fault("disk-torn", targets=("disk",), momentary=True, emulated=True)
class DiskTorn(Fault, frozen=True):
    """The power goes in the middle of one of the disk's coming operations; with `lasts` it comes back later."""

    operation: Annotated[int, Count(1, 1000)] = 1

    async def start(self, world: World, target: str) -> None:
        await world.box.cut_power_at(self.operation)

    async def stop(self, world: World, target: str) -> None:
        world.box.restore_power()
