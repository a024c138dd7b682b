"""Training of staff that expires."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("training-expired", targets=("datacenter",))
class TrainingExpired(Fault[EmulatedWorld], frozen=True):
    """The training of all staff for the instruments has expired."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.expire_training()
