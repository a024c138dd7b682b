"""The power goes."""

from __future__ import annotations

from sim.faults import Fault, World, fault


@fault("power-cut", targets=("box",), momentary=True)
class PowerCut(Fault, frozen=True):
    """The box loses its power, and all that was not flushed; with `lasts` it comes back that much later."""

    async def start(self, world: World, target: str) -> None:
        world.box.cut_power()

    async def stop(self, world: World, target: str) -> None:
        world.box.restore_power()
