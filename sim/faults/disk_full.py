"""No room left."""

from __future__ import annotations

from sim.faults import Fault, World, fault


@fault("disk-full", targets=("disk",))
class DiskFull(Fault, frozen=True):
    """Something else takes all the room that the disk has left."""

    async def start(self, world: World, target: str) -> None:
        world.box.fill_disk()

    async def stop(self, world: World, target: str) -> None:
        world.box.free_disk()
