"""Loss of the box's FIPS mode."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("fips-lost", targets=("box",))
class FipsLost(Fault[EmulatedWorld], frozen=True):
    """The box restarts with a kernel that is not in FIPS mode, and at the end of the fault with one that is. If the
    lab has `fips = "required"`, the box serves no port and makes no connection meanwhile."""

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.box.lose_fips()
