"""HTTP errors from the data center."""

from __future__ import annotations

from typing import Annotated

from sim.faults import End, Fault, fault
from sim.faults.world import EmulatedWorld
from sim.values import CountForm


@fault("datacenter-errors", targets=("datacenter",))
class DatacenterErrors(Fault[EmulatedWorld], frozen=True):
    """The data center answers every batch with the HTTP status `status`."""

    status: Annotated[int, CountForm(400, 599)] = 503

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.answer_with(self.status)
