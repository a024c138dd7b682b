"""Update of the box, as ordered by an event with the key `update` in a lab file."""

from __future__ import annotations

from typing import Literal, TypeAlias

from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault
from sim.faults.world import MachineWorld

ReleaseHealth: TypeAlias = Literal["healthy", "unhealthy", "unstartable"]
"""Behavior of a slot's release; see `UpdateOrdered`."""
ApplicationRelease: TypeAlias = Literal["application", "unhealthy-application", "unstartable-application"]
"""Behavior of a release that changes only the application; see `UpdateOrdered`."""
ProfileRelease: TypeAlias = Literal["profiles", "narrow-profiles", "unusable-profiles"]
"""Content of a data release; see `UpdateOrdered`."""
OrderedRelease: TypeAlias = Literal[
    "healthy",
    "unhealthy",
    "unstartable",
    "application",
    "unhealthy-application",
    "unstartable-application",
    "profiles",
    "narrow-profiles",
    "unusable-profiles",
]


@fault("update", targets=("box",), momentary=True)
class UpdateOrdered(Fault[MachineWorld], frozen=True):
    """The data center orders the box to install a new release, which the box fetches, tries, and commits or rejects.

    In an `unhealthy` release the firewall policy cannot be enforced; an `unstartable` one never starts the box
    program, and a watchdog resets the machine. `lasts` is the time for which the restarts explain delays.

    An `application` release changes only the box's programs, which are restarted without a reboot of the machine. An
    `unhealthy-application` or an `unstartable-application` is rejected in the same way.

    `profiles` are new versions of the profiles of all models, with one more assay, which the box uses without a
    restart. In `narrow-profiles` a channel is missing that instruments report, so that the box returns to the
    previous ones; it never uses `unusable-profiles`. In a lab file, `update = "healthy"` stands for `fault`, `target`
    and `release`.
    """

    release: OrderedRelease = "healthy"

    async def start(self, world: MachineWorld, target: str) -> End:
        world.order_update()
        return nothing_to_end
