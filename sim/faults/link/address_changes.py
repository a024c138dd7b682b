"""Address change of the box or the data center."""

from __future__ import annotations

from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("address-changes", targets=("uplink", "datacenter"), momentary=True)
class AddressChanges(Fault[World], frozen=True):
    """The box's address on the `uplink`, or that of the `datacenter` under its name, changes.

    Connections that use the old address stop working, and neither end is notified.
    """

    async def start(self, world: World, target: str) -> End:
        await world.change_address(target)
        return nothing_to_end
