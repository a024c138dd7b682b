"""Requests whose responses are never read."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import fault
from sim.faults.instrument.attack import AttackFault
from sim.hostile import Attack
from sim.hostile.requests import ignore_answers
from sim.units import SECOND_NS
from sim.values import CountForm


@fault("instrument-ignores-answers", targets=("instrument",))
class InstrumentIgnoresAnswers(AttackFault, frozen=True):
    """A program on the instrument keeps up to `connections` open, sends 8 requests over each at intervals of \
`every`, and reads no response."""

    connections: Annotated[int, CountForm(1, 1000)] = 50

    def program(self) -> Attack:
        return partial(ignore_answers, every_s=self.every / SECOND_NS, connections=self.connections)
