"""Unfinished TLS handshakes from a program on an instrument."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.hostile.connections import stall_handshakes
from sim.units import SECOND_NS
from sim.values import CountForm, duration


@fault("instrument-stalls-handshakes", targets=("instrument",))
class InstrumentStallsHandshakes(Fault[World], frozen=True):
    """A program on the instrument opens a connection at intervals of `every`, keeps up to `connections` open, and \
completes no TLS handshake: it sends nothing, half of the first message, or all of it."""

    every: Annotated[int, duration("1ms", "1d")] = SECOND_NS
    connections: Annotated[int, CountForm(1, 1000)] = 200

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        attack = partial(stall_handshakes, every_s=self.every / SECOND_NS, connections=self.connections)
        return world.instrument(target).attack(attack)
