"""A bad line."""

from __future__ import annotations

from typing import Final

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.lab.values import Fraction, Nanoseconds
from sim.net.link import Impairment

BLOCKING_LOSS: Final = 0.5
"""TCP makes no progress to speak of where half of the packets are lost."""


@fault("link-degraded", targets=("uplink", "instrument"))
class LinkDegraded(Fault, frozen=True):
    """The link loses, delays, doubles and reorders packets; `loss = "100%"` is a silent outage."""

    loss: Fraction = 0.0
    duplication: Fraction = 0.0
    reordering: Fraction = 0.0
    delay: Nanoseconds = 0
    jitter: Nanoseconds = 0

    @property
    def effect(self) -> Effect:
        return "blocks" if self.loss >= BLOCKING_LOSS else "slows"

    async def start(self, world: World, target: str) -> End:
        return world.link(target).impair(
            Impairment(
                delay_ns=self.delay,
                jitter_ns=self.jitter,
                loss=self.loss,
                duplication=self.duplication,
                reordering=self.reordering,
            )
        )
