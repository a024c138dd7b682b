"""Somebody sets the clock."""

from __future__ import annotations

from typing import Literal

from sim.faults import Fault, World, fault
from sim.values import Nanoseconds


@fault("clock-jump", targets=("clock",), momentary=True, emulated=True)
class ClockJump(Fault, frozen=True):
    """The box's wall clock jumps `by` that much, `forwards` or `backwards`."""

    by: Nanoseconds
    direction: Literal["forwards", "backwards"] = "forwards"

    async def start(self, world: World, target: str) -> None:
        world.box.clock.backend.jump(self.by if self.direction == "forwards" else -self.by)
