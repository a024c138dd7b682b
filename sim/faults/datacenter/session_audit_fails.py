"""The data center's audit file of remote sessions on a full disk."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("session-audit-fails", targets=("datacenter",))
class SessionAuditFails(Fault[EmulatedWorld], frozen=True):
    """The data center cannot write its audit file of remote sessions; the box's own audit file is not affected."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.fail_session_audit()
