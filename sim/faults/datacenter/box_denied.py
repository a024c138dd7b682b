"""A box on the deny-list."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("box-denied", targets=("datacenter",))
class BoxDenied(Fault[World], frozen=True):
    """The box is on the deny-list of the data center, which refuses all of its requests."""

    async def start(self, world: World, target: str) -> End:
        return world.datacenter.deny_box()
