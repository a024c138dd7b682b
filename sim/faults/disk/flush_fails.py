"""Failing disk flushes."""

from __future__ import annotations

from typing import Annotated, Final

from sim.engine.layers import nothing_to_end
from sim.faults import RECOVERY_NS, End, Fault, fault
from sim.faults.world import MachineWorld
from sim.units import SECOND_NS
from sim.values import CountForm

RETRY_NS: Final = 30 * SECOND_NS
"""Longest time until an instrument sends its reports again and so causes the next flush."""


@fault("disk-flush-fails", targets=("disk",), momentary=True)
class DiskFlushFails(Fault[MachineWorld], frozen=True):
    """The next `times` flushes fail; their data may have been written or not.

    In the image world, a flush of a file system's journal may be among them. Linux then makes the file system
    read-only, and the box restarts because of this, at the earliest two minutes after its last start.
    """

    times: Annotated[int, CountForm(1, 1000)] = 1

    @property
    def recovery_ns(self) -> int:
        return RECOVERY_NS + self.times * RETRY_NS

    async def start(self, world: MachineWorld, target: str) -> End:
        world.box.fail_flushes(self.times)
        return nothing_to_end
