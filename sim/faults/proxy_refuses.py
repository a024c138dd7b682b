"""The proxy's password was changed."""

from __future__ import annotations

from sim.faults import Fault, World, fault


@fault("proxy-refuses", targets=("proxy",))
class ProxyRefuses(Fault, frozen=True):
    """The proxy refuses to authenticate anybody (HTTP: 407); tunnels that are open are ended."""

    async def start(self, world: World, target: str) -> None:
        await world.proxy.refuse(on=True)

    async def stop(self, world: World, target: str) -> None:
        await world.proxy.refuse(on=False)
