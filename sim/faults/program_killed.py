"""SIGKILL."""

from __future__ import annotations

from sim.faults import Fault, World, fault


@fault("program-killed", targets=("box",), momentary=True)
class ProgramKilled(Fault, frozen=True):
    """The box program is killed; the system starts it again."""

    async def start(self, world: World, target: str) -> None:
        world.box.kill()
