"""A slower line."""

from __future__ import annotations

from sim.faults import Fault, World, fault
from sim.values import BitsPerSecond


@fault("link-rate", targets=("uplink", "instrument"))
class LinkRate(Fault, frozen=True):
    """The link has another rate."""

    rate: BitsPerSecond

    async def start(self, world: World, target: str) -> None:
        world.link(target).degrade(rate_bits=self.rate)

    async def stop(self, world: World, target: str) -> None:
        world.link(target).restore()
