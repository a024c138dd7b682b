"""Approvals of remote sessions that are withdrawn."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("approval-withdrawn", targets=("datacenter",))
class ApprovalWithdrawn(Fault[EmulatedWorld], frozen=True):
    """The access policies no longer permit remote sessions."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.withdraw_approvals()
