"""Somebody else answers."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("datacenter-nonsense", targets=("datacenter",), emulated=True)
class DatacenterNonsense(Fault, frozen=True):
    """The data center answers 200 with a body that is no reply, and has stored nothing."""

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.answer_nonsense()
