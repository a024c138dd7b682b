"""The part of an instrument that reports to the box: the vendor's agent, or the instrument's own standard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from hal.clock import WallClock
from hal.serial import SerialPort
from settings.types import Endpoint
from sim.engine.clock import Environment
from sim.lab.labfile import LabInstrument
from sim.verdict.ledger import ReportLedger
from wire.messages import Command, Outcome, Report
from wire.pki.hierarchy import PrivateKey, make_key
from wire.tls.context import Identity


class Computer(Protocol):
    """The computer of an instrument, on which its programs run."""

    def power_on(self) -> None:
        """Turn on a computer that is off."""
        ...

    def power_off(self) -> None:
        """Turn it off: its programs end without closing their connections."""
        ...

    def start(self, program: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a program; the computer must be on."""
        ...


@dataclass(frozen=True, slots=True)
class Workplace:
    """The environment of an instrument in a world.

    `random` returns the random stream of each of its parts by name.
    """

    env: Environment
    computer: Computer
    spec: LabInstrument
    box: Endpoint
    """The box's endpoint for the instrument."""
    identity: Identity
    clock: WallClock
    ledger: ReportLedger
    random: Callable[[str], Random]
    start_of_day_ns: int
    dialect: frozenset[str] = frozenset()
    serial: SerialPort | None = None
    """Its end of the serial line to the box, if it has one."""
    make_key: Callable[[], PrivateKey] = make_key
    """Makes the key for which it requests a certificate."""


Execute = Callable[[Command, bytes], Outcome | bytes]
"""Executes a command with its file; returns its outcome, or the file to upload."""


class Reporter(Protocol):
    """Reports to the box while the computer has power."""

    def start(self) -> None:
        """Begin, after the power was turned on."""
        ...

    def stop(self) -> None:
        """End, because the power is turned off."""
        ...

    def emit(self, kind: type[Report], *fields: object) -> None:
        """Send a report of the physical model."""
        ...

    def update_ledger(self) -> None:
        """Enter into the ledger the changes that the reporter has not entered yet."""
        ...
