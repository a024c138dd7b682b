"""A bad line."""

from __future__ import annotations

from sim.faults import Fault, World, fault
from sim.values import Fraction, Nanoseconds


@fault("link-degraded", targets=("uplink", "instrument"))
class LinkDegraded(Fault, frozen=True):
    """The link loses, delays, doubles and reorders packets; `loss = "100%"` is a silent outage."""

    loss: Fraction = 0.0
    duplication: Fraction = 0.0
    reordering: Fraction = 0.0
    delay: Nanoseconds = 0
    jitter: Nanoseconds = 0

    async def start(self, world: World, target: str) -> None:
        link = world.link(target)
        link.degrade(
            loss=self.loss,
            duplication=self.duplication,
            reordering=self.reordering,
            delay_ns=link.quality.delay_ns + self.delay,
            jitter_ns=link.quality.jitter_ns + self.jitter,
        )

    async def stop(self, world: World, target: str) -> None:
        world.link(target).restore()
