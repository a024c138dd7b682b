"""A disk that has to try several times."""

from __future__ import annotations

from sim.faults import Fault, World, fault
from sim.values import Nanoseconds


@fault("disk-slow", targets=("disk",), emulated=True)
class DiskSlow(Fault, frozen=True):
    """Each flush takes `flush`."""

    flush: Nanoseconds

    async def start(self, world: World, target: str) -> None:
        world.box.disk.backend.set_latency(flush_ns=self.flush)

    async def stop(self, world: World, target: str) -> None:
        world.box.disk.backend.set_latency(flush_ns=world.box.flush_ns)
