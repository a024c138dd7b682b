"""Carrier loss on a link."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("link-down", targets=("uplink", "instrument"))
class LinkDown(Fault[World], frozen=True):
    """The cable is unplugged: packets in flight are lost, and both ends lose the carrier."""

    async def start(self, world: World, target: str) -> End:
        return world.link(target).hold_down()
