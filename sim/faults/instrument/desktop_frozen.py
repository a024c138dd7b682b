"""A VNC server that does not respond."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("desktop-frozen", targets=("instrument",))
class DesktopFrozen(Fault[EmulatedWorld], frozen=True):
    """The VNC server of the instrument neither reads nor answers."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.freeze_desktop(target)
