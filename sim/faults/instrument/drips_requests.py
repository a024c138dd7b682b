"""Slow requests (slowloris) from a program on an instrument."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.hostile.requests import drip
from sim.units import SECOND_NS
from sim.values import CountForm, duration


@fault("instrument-drips-requests", targets=("instrument",))
class InstrumentDripsRequests(Fault[World], frozen=True):
    """A program on the instrument sends one byte at intervals of `every` over each of up to `connections`: of a TLS \
handshake, the head of a request, or its body."""

    every: Annotated[int, duration("1ms", "1d")] = SECOND_NS
    connections: Annotated[int, CountForm(1, 1000)] = 50

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        attack = partial(drip, every_s=self.every / SECOND_NS, connections=self.connections)
        return world.instrument(target).attack(attack)
