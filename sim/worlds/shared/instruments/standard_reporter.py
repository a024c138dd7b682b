"""Reports in the instrument's own standard, over TCP or a serial line.

The instrument keeps messages on its disk until they are acknowledged: after a lost connection or a power cut it sends
the same bytes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from settings.profile import Verb
from sim.instruments.assurance import Process
from sim.instruments.host_interface.content import HostMessage
from sim.instruments.host_interface.interface import HostInterface, OutgoingMessage
from sim.instruments.host_interface.transmitters.transmitter import (
    Abandon,
    TransmitterAction,
    TransmitterEvents,
)
from sim.units import MINUTE_NS, SECOND_NS
from sim.worlds.shared.instruments.host_line import HostLine, open_line
from sim.worlds.shared.instruments.reporter import Execute, Workplace
from wire.messages import Command, Report
from wire.standards.engine import Close, Send

RECONNECT_SECONDS: Final = 10.0
PATIENT_EVERY_NS: Final = 10 * MINUTE_NS
"""The mean time between two patient results."""
FIRST_PATIENT_NS: Final = 15 * SECOND_NS
"""The latest time of the first patient, so that a short lab has one."""


class StandardReporter:
    """Implements `Reporter` for an instrument that speaks a standard; its reports are one run of the ledger."""

    def __init__(self, workplace: Workplace, execute: Execute) -> None:
        self._workplace, self._execute_command = workplace, execute
        self._reports = workplace.ledger.begin_adapted(workplace.spec.serial)
        events = TransmitterEvents(self._done, self._refused, self._commanded)
        self.instrument = HostInterface(
            workplace.spec.model,
            workplace.dialect,
            workplace.clock.now_ns,
            events,
            workplace.random("standard"),
        )
        self._writes = workplace.random("writes")
        self._on = False
        self._queued = asyncio.Event()
        self._abandoned: list[HostLine] = []
        workplace.env.process(self._measure_patients())

    def start(self) -> None:
        """See `Reporter`."""
        self._on = True
        self._workplace.computer.start(self._run())

    def stop(self) -> None:
        """See `Reporter`."""
        self._on = False
        self.instrument.transmitter.closed(0.0)

    def emit(self, kind: type[Report], *fields: object) -> None:
        """See `Reporter`."""
        if self._on and (message := self.instrument.write(kind, fields)) is not None:
            self._send(message)

    def update_ledger(self) -> None:
        """See `Reporter`: there is nothing to record."""

    def _measure_patients(self) -> Process:
        random = self._workplace.random("patients")
        yield self._workplace.env.timeout(random.randrange(FIRST_PATIENT_NS) + 1)
        while True:
            if self._on:
                self._send(self.instrument.measure_patient())
            yield self._workplace.env.timeout(int(random.expovariate(1.0) * PATIENT_EVERY_NS) + 1)

    def _send(self, outgoing: OutgoingMessage) -> None:
        if outgoing.finding is not None:
            outgoing.message.reports.append(self._reports.made(outgoing.finding, self._workplace.env.now))
        self.instrument.transmitter.enqueue(outgoing.message)
        self._queued.set()

    # -- callbacks of the transmitter

    def _done(self, message: HostMessage) -> None:
        for number in message.reports:
            self._reports.run.acknowledged(number, self._workplace.env.now)

    def _refused(self, message: HostMessage, answer: str) -> None:
        self._reports.refusals.append((self._workplace.env.now, f"{message.kind} was answered by {answer}"))

    def _commanded(self, verb: Verb) -> None:
        self._execute_command(Command(1, self._workplace.spec.serial, verb), b"")

    # -- the connection

    async def _run(self) -> None:
        transmitter = self.instrument.transmitter
        while True:
            while not transmitter.waiting:
                self._queued.clear()
                await self._queued.wait()
            try:
                line = await open_line(self._workplace)
            except OSError:
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            try:
                await self._converse(line)
            finally:
                transmitter.closed(self._now())
                if line not in self._abandoned:
                    line.close()
            await asyncio.sleep(self._writes.uniform(0.5, 2.0))

    async def _converse(self, line: HostLine) -> None:
        transmitter = self.instrument.transmitter
        actions: Sequence[TransmitterAction] = transmitter.connected(self._now())
        while await self._execute(line, actions):
            data = await line.read(transmitter.deadline, self._queued)
            if data is None:
                return
            now = self._now()
            actions = transmitter.receive(data, now) if data else transmitter.expired(now)

    async def _execute(self, line: HostLine, actions: Sequence[TransmitterAction]) -> bool:
        """Execute actions; returns whether the connection continues."""
        for action in actions:
            match action:
                case Send(data, after_s):
                    await asyncio.sleep(after_s)
                    with suppress(OSError):
                        await self._write(line, data)
                case Close():
                    return False
                case Abandon():
                    self._abandoned[:] = [*self._abandoned[-3:], line]
                    return False
        return True

    async def _write(self, line: HostLine, data: bytes) -> None:
        if "many-writes" not in self._workplace.dialect:
            await line.write(data)
            return
        while data:
            size = self._writes.randrange(1, 200)
            await line.write(data[:size])
            await asyncio.sleep(self._writes.uniform(0.0, 0.02))
            data = data[size:]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
