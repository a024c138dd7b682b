"""Reduced rate of a link."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.net.link import Impairment
from sim.values import BitsPerSecond


@fault("link-rate", targets=("uplink", "instrument"))
class LinkRate(Fault[World], frozen=True):
    """The link's rate is limited to `rate`."""

    rate: BitsPerSecond

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        return world.link(target).impair(Impairment(rate_bits=self.rate))
