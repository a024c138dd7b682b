"""A path that swallows long packets."""

from __future__ import annotations

from typing import Annotated

from sim.faults import End, Fault, fault
from sim.faults.world import World
from sim.lab.values import size
from sim.net.link import Impairment


@fault("mtu-black-hole", targets=("uplink", "instrument"))
class MtuBlackHole(Fault, frozen=True):
    """IP packets longer than `bytes` vanish both ways, and no ICMP error tells the sender."""

    bytes: Annotated[int, size("68B", "1499B")]

    async def start(self, world: World, target: str) -> End:
        return world.link(target).impair(Impairment(packet_bytes_max=self.bytes))
