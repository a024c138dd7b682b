"""The proxy that inspects everything."""

from __future__ import annotations

from sim.faults import Fault, World, fault
from sim.units import SECOND_NS
from sim.values import Nanoseconds


@fault("proxy-slow", targets=("proxy",))
class ProxySlow(Fault, frozen=True):
    """The proxy holds everything back for `delay`, in both directions."""

    delay: Nanoseconds

    async def start(self, world: World, target: str) -> None:
        await world.proxy.hold_back(self.delay / SECOND_NS)

    async def stop(self, world: World, target: str) -> None:
        await world.proxy.hold_back(0.0)
