"""A program on an instrument's computer that looks around."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.lab.values import duration
from sim.units import SECOND_NS


@fault("intruder-instrument", targets=("instrument",))
class IntruderInstrument(Fault, frozen=True):
    """A program on the instrument tries other instruments, the uplink, and the box, anew `every` so often."""

    every: Annotated[int, duration("1s", "1d")] = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: World, target: str) -> End:
        return world.intruders.begin(target, self.every)
