"""Somebody on the way to the data center."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.lab.values import duration
from sim.units import SECOND_NS


@fault("intruder-outside", targets=("uplink",))
class IntruderOutside(Fault, frozen=True):
    """Somebody at the uplink's far end tries the box and the instruments behind it, anew `every` so often."""

    every: Annotated[int, duration("1s", "1d")] = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: World, target: str) -> End:
        return world.intruders.begin(target, self.every)
