"""The flush that fails."""

from __future__ import annotations

from typing import Annotated

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.layers import nothing_to_end
from sim.values import Count


@fault("disk-flush-fails", targets=("disk",), momentary=True, emulated=True)
class DiskFlushFails(Fault, frozen=True):
    """The next `times` flushes fail, and what they should have written may be there or not."""

    times: Annotated[int, Count(1, 1000)] = 1

    async def start(self, world: EmulatedWorld, target: str) -> End:
        world.box.fail_flushes(self.times)
        return nothing_to_end
