"""The computer of an instrument in the virtual world, and its serial line."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hal.emul.serial import EmulSerialPort
from sim.net.host import SimHost
from sim.net.loop import SimLoop


class VirtualComputer:
    """A `sim.worlds.shared.instruments.reporter.Computer` on a simulated host."""

    def __init__(self, loop: SimLoop, host: SimHost) -> None:
        self._loop, self._host = loop, host

    def power_on(self) -> None:
        """Start a new incarnation of the host."""
        self._host.power_on()

    def power_off(self) -> None:
        """End the host's incarnation, and with it its programs."""
        self._host.power_off()

    def start(self, program: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a program on the host, which must be on."""
        assert self._host.incarnation is not None
        return self._host.incarnation.run(self._loop, program)


class SerialCable:
    """A null-modem cable between an instrument and a serial port of the box."""

    def __init__(self, instrument: EmulSerialPort, box: EmulSerialPort) -> None:
        self.instrument, self._box = instrument, box
        self.follow(True)

    def follow(self, up: bool) -> None:
        """Connect or disconnect the cable when the instrument's link goes up or down."""
        if up:
            self.instrument.backend.connect(self._box)
        else:
            self.instrument.backend.disconnect()
