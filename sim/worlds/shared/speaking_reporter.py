"""Reports in the instrument's own standard, over TCP or a serial line.

The instrument keeps what it has said on its disk until it is acknowledged: neither a lost connection nor a power cut
loses it, and the same bytes are sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from settings.profile import Verb
from sim.instruments.assurance import Process
from sim.instruments.speaking.content import SpokenMessage
from sim.instruments.speaking.instrument import Said, SpeakingInstrument
from sim.instruments.speaking.speaker import Hearing, SpeakerAction, Vanish
from sim.units import MINUTE_NS, SECOND_NS
from sim.worlds.shared.reporter import Execute, Workplace
from sim.worlds.shared.spoken_line import SpokenLine, open_line
from wire.messages import Command, Report
from wire.standards.engine import Close, Send

RECONNECT_SECONDS: Final = 10.0
PATIENT_EVERY_NS: Final = 10 * MINUTE_NS
"""The mean time between two results of patients."""
FIRST_PATIENT_NS: Final = 15 * SECOND_NS
"""The latest time of the first one, so that a short lab has patients too."""


class SpeakingReporter:
    """`sim.worlds.shared.reporter.Reporter` by a standard; all of its reports are one run of the ledger."""

    def __init__(self, place: Workplace, execute: Execute) -> None:
        self._place, self._do = place, execute
        self._spoken = place.ledger.begin_spoken(place.spec.serial)
        hearing = Hearing(self._done, self._refused, self._commanded)
        self.instrument = SpeakingInstrument(
            place.spec.model, place.dialect, place.clock.now_ns, hearing, place.random("standard")
        )
        self._writes = place.random("writes")
        self._on = False
        self._to_say = asyncio.Event()
        self._abandoned: list[SpokenLine] = []
        place.env.process(self._see_patients())

    def start(self) -> None:
        """See `Reporter`."""
        self._on = True
        self._place.computer.start(self._live())

    def stop(self) -> None:
        """See `Reporter`."""
        self._on = False
        self.instrument.speaker.closed(0.0)

    def emit(self, kind: type[Report], *fields: object) -> None:
        """See `Reporter`."""
        if self._on and (said := self.instrument.say(kind, fields)) is not None:
            self._say(said)

    def note(self) -> None:
        """See `Reporter`: it holds nothing else."""

    def _see_patients(self) -> Process:
        random = self._place.random("patients")
        yield self._place.env.timeout(random.randrange(FIRST_PATIENT_NS) + 1)
        while True:
            if self._on:
                self._say(self.instrument.measure_patient())
            yield self._place.env.timeout(int(random.expovariate(1.0) * PATIENT_EVERY_NS) + 1)

    def _say(self, said: Said) -> None:
        if said.finding is not None:
            said.message.reports.append(self._spoken.made(said.finding, self._place.env.now))
        self.instrument.speaker.tell(said.message)
        self._to_say.set()

    # -- what the speaker tells

    def _done(self, message: SpokenMessage) -> None:
        for number in message.reports:
            self._spoken.run.acknowledged(number, self._place.env.now)

    def _refused(self, message: SpokenMessage, answer: str) -> None:
        self._spoken.refusals.append((self._place.env.now, f"{message.about} was answered by {answer}"))

    def _commanded(self, verb: Verb) -> None:
        self._do(Command(1, self._place.spec.serial, verb), b"")

    # -- the connection

    async def _live(self) -> None:
        speaker = self.instrument.speaker
        while True:
            while not speaker.waiting:
                self._to_say.clear()
                await self._to_say.wait()
            try:
                line = await open_line(self._place)
            except OSError:
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            try:
                await self._converse(line)
            finally:
                speaker.closed(self._now())
                if line not in self._abandoned:
                    line.close()
            await asyncio.sleep(self._writes.uniform(0.5, 2.0))

    async def _converse(self, line: SpokenLine) -> None:
        speaker = self.instrument.speaker
        actions: Sequence[SpeakerAction] = speaker.connected(self._now())
        while await self._execute(line, actions):
            data = await line.read(speaker.deadline, self._to_say)
            if data is None:
                return
            now = self._now()
            actions = speaker.receive(data, now) if data else speaker.expired(now)

    async def _execute(self, line: SpokenLine, actions: Sequence[SpeakerAction]) -> bool:
        """Execute actions; returns whether the connection continues."""
        for action in actions:
            match action:
                case Send(data, after_s):
                    await asyncio.sleep(after_s)
                    with suppress(OSError):
                        await self._write(line, data)
                case Close():
                    return False
                case Vanish():
                    self._abandoned[:] = [*self._abandoned[-3:], line]
                    return False
        return True

    async def _write(self, line: SpokenLine, data: bytes) -> None:
        if "many-writes" not in self._place.dialect:
            await line.write(data)
            return
        while data:
            size = self._writes.randrange(1, 200)
            await line.write(data[:size])
            await asyncio.sleep(self._writes.uniform(0.0, 0.02))
            data = data[size:]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
