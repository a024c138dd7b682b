"""Slow name service."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.values import Nanoseconds


@fault("dns-slow", targets=("dns",))
class DnsSlow(Fault[EmulatedWorld], frozen=True):
    """The site's name service takes `delay` to answer. A resolver gives up after ten seconds."""

    delay: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.names.delay(self.delay)
