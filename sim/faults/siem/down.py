"""A SIEM that is down."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("siem-down", targets=("siem",))
class SiemDown(Fault[EmulatedWorld], frozen=True):
    """The SIEM has no power. In a lab with this fault the data center forwards audit records to a SIEM, and the
    verdict expects each record to arrive there once, in the order of the hash chain."""

    @property
    def effect(self) -> Effect:
        """No report depends on the SIEM."""
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.hold_siem_down()
