"""Step of the box's wall clock."""

from __future__ import annotations

from typing import Annotated, Literal

from sim.engine.layers import nothing_to_end
from sim.faults import Effect, End, Fault, fault
from sim.faults.world import MachineWorld
from sim.values import duration


@fault("clock-jump", targets=("clock",), momentary=True)
class ClockJump(Fault[MachineWorld], frozen=True):
    """The box's wall clock jumps by `by`, `forwards` or `backwards`."""

    by: Annotated[int, duration("0s", "36500d")]
    direction: Literal["forwards", "backwards"] = "forwards"

    @property
    def effect(self) -> Effect:
        return "none"

    @property
    def step_ns(self) -> int:
        """The step in ns, negative if it is backwards."""
        return self.by if self.direction == "forwards" else -self.by

    async def start(self, world: MachineWorld, target: str) -> End:
        await world.box.jump_clock(self.step_ns)
        return nothing_to_end
