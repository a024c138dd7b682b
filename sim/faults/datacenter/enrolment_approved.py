"""A person who approves requests for certificates."""

from __future__ import annotations

from sim.engine.layers import nothing_to_end
from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World


@fault("enrolment-approved", targets=("datacenter",), momentary=True)
class EnrolmentApproved(Fault[World], frozen=True):
    """A person approves all certificate requests that are pending at this time."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: World, target: str) -> End:
        world.datacenter.approve_enrolments()
        return nothing_to_end
