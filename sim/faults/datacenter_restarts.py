"""The data center's program dies."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("datacenter-restarts", targets=("datacenter",), momentary=True)
class DatacenterRestarts(Fault, frozen=True):
    """The data center's program is killed (SIGKILL) and started again; with `lasts`, that much later.

    What it has not committed is lost, connections are reset, and new ones are refused until it runs.
    """

    async def start(self, world: World, target: str) -> End:
        return await world.datacenter.hold_down()
