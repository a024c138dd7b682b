"""Somebody needs the socket for the vacuum cleaner."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("instrument-unplugged", targets=("instrument",))
class InstrumentUnplugged(Fault, frozen=True):
    """The instrument loses its power: it measures nothing, and its agent forgets what it had not yet delivered.

    When the power is back the agent begins a new run, whose reports count from 1 again.
    """

    async def start(self, world: World, target: str) -> End:
        return world.instrument(target).hold_power()
