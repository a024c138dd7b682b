"""Crash of the tunnel processes."""

from __future__ import annotations

from sim.engine.layers import nothing_to_end
from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("tunnels-killed", targets=("box", "datacenter"), momentary=True)
class TunnelsKilled(Fault[EmulatedWorld], frozen=True):
    """The tunnel processes of remote sessions are killed (SIGKILL), on the box or in the data center."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        (world.box if target == "box" else world.datacenter).kill_tunnels()
        return nothing_to_end
