"""Power loss of the box."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("power-cut", targets=("box",), momentary=True)
class PowerCut(Fault[World], frozen=True):
    """The box loses power, and all data not flushed to disk; power returns at once or after `lasts`."""

    async def start(self, world: World, target: str) -> End:
        return world.box.hold_power()
