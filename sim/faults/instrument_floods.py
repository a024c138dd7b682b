"""A loop without a pause."""

from __future__ import annotations

from typing import Annotated

from sim.faults import End, Fault, fault
from sim.faults.world import World
from sim.values import Count


@fault("instrument-floods", targets=("instrument",))
class InstrumentFloods(Fault, frozen=True):
    """The instrument's software sends `rate` routine reports a second more than it should."""

    rate: Annotated[int, Count(1, 1000)] = 100

    async def start(self, world: World, target: str) -> End:
        return world.instrument(target).flood(self.rate)
