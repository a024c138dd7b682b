"""Orders to update the box: what an event of a lab file with the key `update` is."""

from __future__ import annotations

from typing import Literal, TypeAlias

from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld

ReleaseHealth: TypeAlias = Literal["healthy", "unhealthy", "unstartable"]


@fault("update", targets=("box",), momentary=True)
class UpdateOrdered(Fault[EmulatedWorld], frozen=True):
    """The data center orders the box to install a new release, which the box fetches, tries, and commits or leaves.

    In a release that is `unhealthy` the firewall cannot be put in force; one that is `unstartable` never reaches the
    box program, and a watchdog resets the machine. `lasts` is the time in which the restarts explain delays. In a lab
    file, `update = "healthy"` stands for `fault`, `target` and `release`.
    """

    release: ReleaseHealth = "healthy"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        world.order_update()
        return nothing_to_end
