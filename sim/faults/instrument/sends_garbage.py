"""Invalid data from a program on an instrument."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.hostile.garbage import send_garbage
from sim.units import SECOND_NS
from sim.values import duration


@fault("instrument-sends-garbage", targets=("instrument",))
class InstrumentSendsGarbage(Fault[World], frozen=True):
    """A program on the instrument sends garbage at intervals of `every`: no TLS, no HTTP, no valid report."""

    every: Annotated[int, duration("1ms", "1d")] = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: World, target: str) -> End:
        return world.instrument(target).attack(partial(send_garbage, every_s=self.every / SECOND_NS))
