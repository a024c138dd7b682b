"""The cable is pulled."""

from __future__ import annotations

from sim.faults import Fault, World, fault


@fault("link-down", targets=("uplink", "instrument"))
class LinkDown(Fault, frozen=True):
    """The cable is out: what is on the way is lost, and both ends lose the carrier."""

    async def start(self, world: World, target: str) -> None:
        world.link(target).cut()

    async def stop(self, world: World, target: str) -> None:
        world.link(target).mend()
