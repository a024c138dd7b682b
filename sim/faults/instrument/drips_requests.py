"""Slow requests (slowloris) from a program on an instrument."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import fault
from sim.faults.instrument.attack import AttackFault
from sim.hostile import Attack
from sim.hostile.requests import drip
from sim.units import SECOND_NS
from sim.values import CountForm


@fault("instrument-drips-requests", targets=("instrument",))
class InstrumentDripsRequests(AttackFault, frozen=True):
    """A program on the instrument keeps up to `connections` open, and sends one byte over each at intervals of \
`every`: of a TLS handshake, the head of a request, or its body."""

    connections: Annotated[int, CountForm(1, 1000)] = 50

    def program(self) -> Attack:
        return partial(drip, every_s=self.every / SECOND_NS, connections=self.connections)
