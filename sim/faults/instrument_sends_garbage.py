"""Software that has lost its mind."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import World
from sim.units import SECOND_NS
from sim.values import Nanoseconds


@fault("instrument-sends-garbage", targets=("instrument",))
class InstrumentSendsGarbage(Fault, frozen=True):
    """Beside its agent something on the instrument sends garbage `every` so often: no TLS, no HTTP, no report."""

    every: Nanoseconds = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: World, target: str) -> End:
        return world.instrument(target).send_garbage(self.every)
