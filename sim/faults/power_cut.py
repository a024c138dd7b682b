"""The power goes."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("power-cut", targets=("box",), momentary=True)
class PowerCut(Fault, frozen=True):
    """The box loses its power, and all that was not flushed; with `lasts` it comes back that much later."""

    async def start(self, world: World, target: str) -> End:
        return world.box.hold_power()
