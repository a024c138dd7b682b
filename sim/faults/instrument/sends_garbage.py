"""Invalid data from a program on an instrument."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import Effect, fault
from sim.faults.instrument.attack import AttackFault
from sim.hostile import Attack
from sim.hostile.garbage import send_garbage
from sim.units import SECOND_NS
from sim.values import duration


@fault("instrument-sends-garbage", targets=("instrument",))
class InstrumentSendsGarbage(AttackFault, frozen=True):
    """A program on the instrument sends garbage at intervals of `every`: not TLS, not HTTP, not a report, or too \
much."""

    every: Annotated[int, duration("1ms", "1d")] = 10 * SECOND_NS

    @property
    def effect(self) -> Effect:
        return "none"

    def program(self) -> Attack:
        return partial(send_garbage, every_s=self.every / SECOND_NS)
