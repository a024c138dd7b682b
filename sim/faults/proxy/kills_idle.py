"""Idle timeout of the proxy."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.units import SECOND_NS
from sim.values import Nanoseconds


@fault("proxy-kills-idle", targets=("proxy",))
class ProxyKillsIdle(Fault[World], frozen=True):
    """The proxy closes tunnels that were idle for `after`."""

    after: Nanoseconds

    @property
    def effect(self) -> Effect:
        return "slows"

    async def start(self, world: World, target: str) -> End:
        assert world.proxy is not None
        return await world.proxy.kill_idle_after(self.after / SECOND_NS)
