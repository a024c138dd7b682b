"""Unfinished TLS handshakes from a program on an instrument."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from sim.faults import fault
from sim.faults.instrument.attack import AttackFault
from sim.hostile import Attack
from sim.hostile.connections import stall_handshakes
from sim.units import SECOND_NS
from sim.values import CountForm


@fault("instrument-stalls-handshakes", targets=("instrument",))
class InstrumentStallsHandshakes(AttackFault, frozen=True):
    """A program on the instrument opens a connection at intervals of `every`, keeps up to `connections` open, and \
completes no TLS handshake: it sends nothing, half of the first message, or all of it."""

    connections: Annotated[int, CountForm(1, 1000)] = 200

    def program(self) -> Attack:
        return partial(stall_handshakes, every_s=self.every / SECOND_NS, connections=self.connections)
