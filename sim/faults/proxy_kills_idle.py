"""The proxy with little patience."""

from __future__ import annotations

from sim.faults import Fault, World, fault
from sim.units import SECOND_NS
from sim.values import Nanoseconds


@fault("proxy-kills-idle", targets=("proxy",))
class ProxyKillsIdle(Fault, frozen=True):
    """The proxy ends tunnels through which nothing went for `after`."""

    after: Nanoseconds

    async def start(self, world: World, target: str) -> None:
        await world.proxy.kill_idle_after(self.after / SECOND_NS)

    async def stop(self, world: World, target: str) -> None:
        await world.proxy.kill_idle_after(None)
