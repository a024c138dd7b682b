"""Intruder at the far end of the uplink."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.units import SECOND_NS
from sim.values import duration


@fault("intruder-outside", targets=("uplink",))
class IntruderOutside(Fault[World], frozen=True):
    """A program at the uplink's far end tries to connect to the box and its instruments, with pauses of `every`."""

    every: Annotated[int, duration("1s", "1d")] = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: World, target: str) -> End:
        return world.intruders.begin(target, self.every)
