"""Name service outage."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("dns-silent", targets=("dns",))
class DnsSilent(Fault[World], frozen=True):
    """The site's name service does not answer; open connections are not affected."""

    async def start(self, world: World, target: str) -> End:
        return world.names.stop_answering()
