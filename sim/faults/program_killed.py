"""SIGKILL."""

from __future__ import annotations

from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("program-killed", targets=("box",), momentary=True)
class ProgramKilled(Fault, frozen=True):
    """The box program is killed; the system starts it again."""

    async def start(self, world: World, target: str) -> End:
        world.box.kill()
        return nothing_to_end
