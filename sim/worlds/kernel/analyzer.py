"""The computer of an instrument in the kernel world, and its serial line."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final

from hal.linux.serial import LinuxSerialPort
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.supervision.real_time import acting

_READ_BYTES: Final = 4096


class PtyCable:
    """A null-modem cable: two pseudo-terminals, between which this process forwards bytes while it is plugged in.

    `device` is the box's end. Baud rates have no effect on a pseudo-terminal.
    """

    def __init__(self, name: str) -> None:
        self._ends = [os.openpty() for _ in range(2)]
        for master, slave in self._ends:
            tty.setraw(slave)
            os.set_blocking(master, False)
        (_, box), (_, instrument) = self._ends
        self.device = os.ttyname(box)
        self.instrument = LinuxSerialPort(name, os.ttyname(instrument))
        self._up = True
        loop = asyncio.get_running_loop()
        (one, _), (other, _) = self._ends
        loop.add_reader(one, self._forward, one, other)
        loop.add_reader(other, self._forward, other, one)

    def follow(self, up: bool) -> None:
        """Connect or disconnect the cable when the instrument's link goes up or down."""
        self._up = up

    def _forward(self, source: int, target: int) -> None:
        with suppress(OSError):
            data = os.read(source, _READ_BYTES)
            if self._up:
                os.write(target, data)


class KernelComputer:
    """A `sim.worlds.shared.instruments.reporter.Computer` whose programs are tasks that connect from a lab host."""

    def __init__(self, host: NamespaceHost) -> None:
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()

    def power_on(self) -> None:
        """Do nothing: programs can be started at any time."""

    def power_off(self) -> None:
        """End its programs."""
        for task in self._tasks:
            task.cancel()

    def start(self, program: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a program as a task that connects from the host."""
        context = copy_context()
        context.run(acting.set, self._host)
        task = asyncio.get_running_loop().create_task(program, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
