"""Committed, and nobody was told."""

from __future__ import annotations

from sim.faults import Fault, World, fault


@fault("datacenter-loses-responses", targets=("datacenter",), emulated=True)
class DatacenterLosesResponses(Fault, frozen=True):
    """The data center commits each batch; its response never arrives."""

    async def start(self, world: World, target: str) -> None:
        world.datacenter.loses_responses = True

    async def stop(self, world: World, target: str) -> None:
        world.datacenter.loses_responses = False
