"""Rapid reconnection by a program on an instrument."""

from __future__ import annotations

from functools import partial

from sim.faults import fault
from sim.faults.instrument.attack import AttackFault
from sim.hostile import Attack
from sim.hostile.connections import reconnect
from sim.units import SECOND_NS


@fault("instrument-reconnects", targets=("instrument",))
class InstrumentReconnects(AttackFault, frozen=True):
    """A program on the instrument connects at intervals of `every`, and resets the connection during the TLS \
handshake or after it."""

    def program(self) -> Attack:
        return partial(reconnect, every_s=self.every / SECOND_NS)
