"""The flush that fails."""

from __future__ import annotations

from typing import Annotated, Final

from sim.engine.layers import nothing_to_end
from sim.faults import RECOVERY_NS, End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.lab.values import CountForm
from sim.units import SECOND_NS

RETRY_NS: Final = 30 * SECOND_NS
"""How long an instrument may wait before it tries again, which is when the next flush fails."""


@fault("disk-flush-fails", targets=("disk",), momentary=True, emulated=True)
class DiskFlushFails(Fault, frozen=True):
    """The next `times` flushes fail, and what they should have written may be there or not."""

    times: Annotated[int, CountForm(1, 1000)] = 1

    @property
    def recovery_ns(self) -> int:
        return RECOVERY_NS + self.times * RETRY_NS

    async def start(self, world: EmulatedWorld, target: str) -> End:
        world.box.fail_flushes(self.times)
        return nothing_to_end
