"""Wrong addresses from the name service."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("dns-wrong", targets=("dns",))
class DnsWrong(Fault[World], frozen=True):
    """The site's name service answers every query with an unused address; open connections are not affected."""

    async def start(self, world: World, target: str) -> End:
        return world.names.answer_wrongly()
