"""Lost responses: batches are stored, but not acknowledged."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("datacenter-loses-responses", targets=("datacenter",))
class DatacenterLosesResponses(Fault[EmulatedWorld], frozen=True):
    """The data center stores each batch and closes the connection without a response."""

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.lose_responses()
