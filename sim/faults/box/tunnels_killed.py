"""Death of the processes of the tunnels."""

from __future__ import annotations

from sim.engine.layers import nothing_to_end
from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("tunnels-killed", targets=("box", "datacenter"), momentary=True)
class TunnelsKilled(Fault[EmulatedWorld], frozen=True):
    """The processes of the tunnels of remote sessions are killed (SIGKILL), at the box or at the data center."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        (world.box if target == "box" else world.datacenter).kill_tunnels()
        return nothing_to_end
