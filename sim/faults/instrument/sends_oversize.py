"""Oversized messages from a program on an instrument."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import fault
from sim.faults.instrument.attack import AttackFault
from sim.hostile import Attack
from sim.hostile.requests import oversize
from sim.units import SECOND_NS
from sim.values import duration


@fault("instrument-sends-oversize", targets=("instrument",))
class InstrumentSendsOversize(AttackFault, frozen=True):
    """A program on the instrument sends an oversized message at intervals of `every`: an endless body, head, \
request target or TLS handshake, or reports with too many readings."""

    every: Annotated[int, duration("1ms", "1d")] = 10 * SECOND_NS

    def program(self) -> Attack:
        return partial(oversize, every_s=self.every / SECOND_NS)
