"""Step of the box's wall clock."""

from __future__ import annotations

from typing import Annotated, Literal

from sim.engine.layers import nothing_to_end
from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.values import duration


@fault("clock-jump", targets=("clock",), momentary=True)
class ClockJump(Fault[EmulatedWorld], frozen=True):
    """The box's wall clock jumps by `by`, `forwards` or `backwards`."""

    by: Annotated[int, duration("0s", "36500d")]
    direction: Literal["forwards", "backwards"] = "forwards"

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        world.box.jump_clock(self.by if self.direction == "forwards" else -self.by)
        return nothing_to_end
