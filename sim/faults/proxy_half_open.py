"""The proxy that hears and says nothing."""

from __future__ import annotations

from sim.faults import Fault, World, fault


@fault("proxy-half-open", targets=("proxy",))
class ProxyHalfOpen(Fault, frozen=True):
    """The proxy takes what it is sent, forwards nothing and says nothing; its connections stay up."""

    async def start(self, world: World, target: str) -> None:
        await world.proxy.go_silent(on=True)

    async def stop(self, world: World, target: str) -> None:
        await world.proxy.go_silent(on=False)
