"""Beckman AU: records of fixed columns, each repeated until it is acknowledged."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final

from sim.instruments.speaking.clock import InstrumentClock
from sim.instruments.speaking.codes import SpokenCodes
from sim.instruments.speaking.content import PatientResults, SpokenMessage, Statement
from sim.instruments.speaking.litter import litter, log_line
from sim.instruments.speaking.speaker import Hearing, SpeakerAction
from wire.standards.au import ACK, ETX, NAK, STX
from wire.standards.engine import Send

ANSWER_S: Final = 5.0
"""After this time a record is sent again; the host answers within 2 s."""
NOW_AND_THEN: Final = 0.05
BEGIN, END = b"DB", b"DE"


class AuWriter:
    """Writes records."""

    def __init__(
        self, codes: SpokenCodes, dialect: frozenset[str], clock: InstrumentClock, random: Random
    ) -> None:
        del dialect, clock
        self._codes, self._number, self._random = codes, 0, random

    def write(self, statement: Statement, at_s: int) -> SpokenMessage:
        """The record with the results of a control or a patient; it has no time."""
        del at_s
        self._number = self._number % 9999 + 1
        place = f"01{self._random.randrange(1, 1000):04}{self._random.randrange(1, 11):02}"
        if isinstance(statement, PatientResults):
            start = f"D {place} {self._number:04}{statement.patient.sample:<10}E"
            values = [(self._codes.tests[assay], value) for assay, value in statement.values]
        else:
            assay, level, deviation = statement.fields
            start = f"DQ{place}Q{self._number:04}{self._codes.control(level):<10}E"
            values = [(self._codes.tests[assay], self._codes.value(assay, level, deviation))]
        text = start + "".join(f"{test}{value:>7}  " for test, value in values)
        return SpokenMessage(text.encode(), about=start[:2], log=log_line(statement).encode())


class AuSpeaker:
    """`sim.instruments.speaking.speaker.Speaker`: DB, a record and DE, each after the last acknowledgement."""

    def __init__(self, dialect: frozenset[str], hearing: Hearing, random: Random) -> None:
        self._dialect, self._hearing, self._random = dialect, hearing, random
        self._queue: deque[SpokenMessage] = deque()
        self._records: deque[bytes] = deque()
        self._deadline = 0.0

    @property
    def waiting(self) -> int:
        """See `Speaker`."""
        return len(self._queue) or len(self._records)

    @property
    def deadline(self) -> float | None:
        """See `Speaker`."""
        return self._deadline if self.waiting else None

    def tell(self, message: SpokenMessage) -> None:
        """See `Speaker`."""
        self._queue.append(message)

    def connected(self, now: float) -> list[SpeakerAction]:
        """See `Speaker`."""
        self._records.clear()
        return self._next(now)

    def receive(self, data: bytes, now: float) -> list[SpeakerAction]:
        """See `Speaker`."""
        actions: list[SpeakerAction] = []
        for byte in (data[at : at + 1] for at in range(len(data))):
            if byte == ACK and not self._misses():
                self._accepted()
                actions += self._next(now)
            elif byte == NAK and self._queue:
                self._hearing.refused(self._queue[0], "negative acknowledgement")
                actions += self._next(now)
        return actions

    def expired(self, now: float) -> list[SpeakerAction]:
        """See `Speaker`."""
        return self._next(now) if not self._records or now >= self._deadline else []

    def closed(self, now: float) -> None:
        """See `Speaker`."""
        del now
        self._records.clear()

    def _accepted(self) -> None:
        if self._records and self._records.popleft() not in (BEGIN, END):
            self._hearing.done(self._queue.popleft())

    def _next(self, now: float) -> list[SpeakerAction]:
        if not self._records:
            if not self._queue:
                return []
            self._records.extend((BEGIN, self._queue[0].data, END))
        self._deadline = now + ANSWER_S
        before = litter(self._dialect, self._random, self._queue[0]) if self._queue else b""
        after = b"\r\n" if "crlf-after-record" in self._dialect else b""
        return [Send(before + STX + self._records[0] + ETX + after)]

    def _misses(self) -> bool:
        return "late-acknowledgements" in self._dialect and self._random.random() < NOW_AND_THEN
