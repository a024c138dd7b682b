"""The name server nobody knew was needed."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("dns-silent", targets=("dns",))
class DnsSilent(Fault, frozen=True):
    """The site's name service answers nothing; connections that are open are not affected."""

    async def start(self, world: World, target: str) -> End:
        return world.names.fall_silent()
