"""Flood of reports from an instrument."""

from __future__ import annotations

from typing import Annotated

from agents.box.intake.limits import REPORTS_PER_SECOND
from agents.instrument.report_queue import QUEUE_REPORTS_MAX
from sim.faults import RECOVERY_NS, Effect, End, Fault, fault
from sim.faults.world import World
from sim.instruments.instrument import FloodReport
from sim.units import SECOND_NS
from sim.values import CountForm


@fault("instrument-floods", targets=("instrument",))
class InstrumentFloods(Fault[World], frozen=True):
    """The instrument's software sends `rate` additional reports a second: each a `status`, an `alert`, or a status \
with `random` readings, which do not compress."""

    rate: Annotated[int, CountForm(1, 1000)] = 100
    report: FloodReport = "status"

    @property
    def effect(self) -> Effect:
        return "slows"

    @property
    def recovery_ns(self) -> int:
        """The instrument's queue drains at the rate that the box accepts."""
        return RECOVERY_NS + int(QUEUE_REPORTS_MAX / REPORTS_PER_SECOND) * SECOND_NS

    async def start(self, world: World, target: str) -> End:
        return world.instrument(target).flood(self.rate, self.report)
