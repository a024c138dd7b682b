"""Latency added by the proxy."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.units import SECOND_NS
from sim.values import Nanoseconds


@fault("proxy-slow", targets=("proxy",))
class ProxySlow(Fault[World], frozen=True):
    """The proxy delays all data by `delay` in both directions."""

    delay: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.hold_back(self.delay / SECOND_NS)
