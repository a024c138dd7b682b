"""Crash of the box program."""

from __future__ import annotations

from sim.engine.layers import nothing_to_end
from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("program-killed", targets=("box",), momentary=True)
class ProgramKilled(Fault[World], frozen=True):
    """The box program is killed (SIGKILL); the system restarts it."""

    async def start(self, world: World, target: str) -> End:
        await world.box.kill()
        return nothing_to_end
