"""Approvals of remote sessions that are withdrawn."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("approval-withdrawn", targets=("datacenter",))
class ApprovalWithdrawn(Fault[EmulatedWorld], frozen=True):
    """The access policies permit no remote session any more."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.withdraw_approvals()
