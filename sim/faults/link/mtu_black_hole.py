"""Path MTU black hole: long packets are dropped without an ICMP error."""

from __future__ import annotations

from typing import Annotated

from sim.faults import End, Fault, fault
from sim.faults.world import World
from sim.net.link import Impairment
from sim.values import size


@fault("mtu-black-hole", targets=("uplink", "instrument"))
class MtuBlackHole(Fault[World], frozen=True):
    """IP packets longer than `bytes` are dropped in both directions without an ICMP error."""

    bytes: Annotated[int, size("68B", "1499B")]

    async def start(self, world: World, target: str) -> End:
        return world.link(target).impair(Impairment(packet_bytes_max=self.bytes))
