"""A box on the deny-list."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("box-denied", targets=("datacenter",))
class BoxDenied(Fault[EmulatedWorld], frozen=True):
    """The box is on the deny-list of the data center, which answers none of its requests."""

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.deny_box()
