"""The base of faults that run a hostile program on an instrument's computer."""

from __future__ import annotations

from typing import Annotated

from sim.faults import Effect, End, Fault
from sim.faults.world import World
from sim.hostile import Attack
from sim.units import SECOND_NS
from sim.values import duration


class AttackFault(Fault[World], frozen=True):
    """A program (`sim.hostile`) that attacks the box's port at intervals of `every`."""

    every: Annotated[int, duration("1ms", "1d")] = SECOND_NS

    @property
    def effect(self) -> Effect:
        return "slows"

    def program(self) -> Attack:
        """Return the program, which is run until the fault ends."""
        raise NotImplementedError

    async def start(self, world: World, target: str) -> End:
        return world.instrument(target).attack(self.program())
