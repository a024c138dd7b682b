"""Committed, and nobody was told."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("datacenter-loses-responses", targets=("datacenter",), emulated=True)
class DatacenterLosesResponses(Fault, frozen=True):
    """The data center commits each batch; its response never arrives."""

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.lose_responses()
