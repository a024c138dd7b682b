"""A new lease, or a new data center under the old name."""

from __future__ import annotations

from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("address-changes", targets=("uplink", "datacenter"), momentary=True)
class AddressChanges(Fault, frozen=True):
    """The box's address on the `uplink`, or that of the `datacenter` under its name, changes.

    Connections to or from the old address are dead without either end being told.
    """

    async def start(self, world: World, target: str) -> End:
        await world.change_address(target)
        return nothing_to_end
