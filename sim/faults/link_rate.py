"""A slower line."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.lab.values import BitsPerSecond
from sim.net.link import Impairment


@fault("link-rate", targets=("uplink", "instrument"))
class LinkRate(Fault, frozen=True):
    """The link has another rate."""

    rate: BitsPerSecond

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        return world.link(target).impair(Impairment(rate_bits=self.rate))
