"""Packet loss, delay, duplication and reordering on a link."""

from __future__ import annotations

from typing import Final

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.net.link import Impairment
from sim.values import Fraction, Nanoseconds

BLOCKING_LOSS: Final = 0.5
"""Packet loss from which TCP makes hardly any progress."""


@fault("link-degraded", targets=("uplink", "instrument"))
class LinkDegraded(Fault[World], frozen=True):
    """The link loses, delays, duplicates and reorders packets; `loss = "100%"` is an outage with carrier."""

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
