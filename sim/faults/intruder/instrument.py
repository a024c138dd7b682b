"""Intruder on an instrument's computer."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.units import SECOND_NS
from sim.values import duration


@fault("intruder-instrument", targets=("instrument",))
class IntruderInstrument(Fault[World], frozen=True):
    """A program on the instrument tries to connect to other instruments, the uplink and the box, with pauses of \
`every`."""

    every: Annotated[int, duration("1s", "1d")] = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: World, target: str) -> End:
        return world.intruders.begin(target, self.every)
