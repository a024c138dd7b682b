"""Restart of the data center's program."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("datacenter-restarts", targets=("datacenter",), momentary=True)
class DatacenterRestarts(Fault[World], frozen=True):
    """The data center's program is killed (SIGKILL) and restarted, at once or after `lasts`.

    Uncommitted data is lost, connections are reset, and new ones are refused until it runs again.
    """

    async def start(self, world: World, target: str) -> End:
        return await world.datacenter.hold_down()
