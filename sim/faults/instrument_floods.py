"""A loop without a pause."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Fault, World, fault
from sim.values import Count


@fault("instrument-floods", targets=("instrument",))
class InstrumentFloods(Fault, frozen=True):
    """The instrument's software sends `rate` routine reports a second more than it should."""

    rate: Annotated[int, Count(1, 1000)] = 100

    async def start(self, world: World, target: str) -> None:
        world.instrument(target).flood(self.rate)

    async def stop(self, world: World, target: str) -> None:
        world.instrument(target).flood(None)
