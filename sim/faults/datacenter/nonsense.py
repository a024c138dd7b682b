"""Invalid responses from the data center."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("datacenter-nonsense", targets=("datacenter",))
class DatacenterNonsense(Fault[EmulatedWorld], frozen=True):
    """The data center answers every batch with status 200 and an invalid body, and stores nothing."""

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.answer_invalidly()
