"""Somebody else answers."""

from __future__ import annotations

from sim.faults import Fault, World, fault


@fault("datacenter-nonsense", targets=("datacenter",), emulated=True)
class DatacenterNonsense(Fault, frozen=True):
    """The data center answers 200 with a body that is no reply, and has stored nothing."""

    async def start(self, world: World, target: str) -> None:
        world.datacenter.nonsense = True

    async def stop(self, world: World, target: str) -> None:
        world.datacenter.nonsense = False
