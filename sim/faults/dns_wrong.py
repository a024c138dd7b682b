"""An entry that somebody mistyped."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("dns-wrong", targets=("dns",))
class DnsWrong(Fault, frozen=True):
    """The site's name service gives every name an address that nobody has; open connections are not affected."""

    async def start(self, world: World, target: str) -> End:
        return world.names.lie()
