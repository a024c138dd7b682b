"""Rapid reconnection by a program on an instrument."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.hostile.connections import reconnect
from sim.units import SECOND_NS
from sim.values import duration


@fault("instrument-reconnects", targets=("instrument",))
class InstrumentReconnects(Fault[World], frozen=True):
    """A program on the instrument connects at intervals of `every`, and resets the connection during the TLS \
handshake or after it."""

    every: Annotated[int, duration("1ms", "1d")] = SECOND_NS

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        attack = partial(reconnect, every_s=self.every / SECOND_NS)
        return world.instrument(target).attack(attack)
