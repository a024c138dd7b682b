"""Requests whose responses are never read."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.hostile.requests import ignore_answers
from sim.units import SECOND_NS
from sim.values import CountForm, duration


@fault("instrument-ignores-answers", targets=("instrument",))
class InstrumentIgnoresAnswers(Fault[World], frozen=True):
    """A program on the instrument sends 8 requests at intervals of `every` over each of up to `connections`, and \
reads no response."""

    every: Annotated[int, duration("1ms", "1d")] = SECOND_NS
    connections: Annotated[int, CountForm(1, 1000)] = 50

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        attack = partial(ignore_answers, every_s=self.every / SECOND_NS, connections=self.connections)
        return world.instrument(target).attack(attack)
