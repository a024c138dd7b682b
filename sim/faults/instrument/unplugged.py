"""Power loss of an instrument."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("instrument-unplugged", targets=("instrument",))
class InstrumentUnplugged(Fault[World], frozen=True):
    """The instrument loses power: it stops measuring, and its agent loses the reports not yet delivered.

    When power returns, the agent begins a new run, whose report numbers start at 1.
    """

    async def start(self, world: World, target: str) -> End:
        return world.instrument(target).hold_power()
