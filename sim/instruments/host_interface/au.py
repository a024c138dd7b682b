"""Beckman AU: fixed-column records, each repeated until it is acknowledged."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final

from sim.instruments.host_interface.clock import InstrumentClock
from sim.instruments.host_interface.codes import HostCodes
from sim.instruments.host_interface.content import HostMessage, MessageContent, PatientResults
from sim.instruments.host_interface.extraneous import extraneous_bytes, log_line
from sim.instruments.host_interface.transmitters.transmitter import TransmitterAction, TransmitterEvents
from wire.standards.au import ACK, ETX, NAK, STX
from wire.standards.engine import Send

ANSWER_S: Final = 5.0
"""The time after which a record is sent again; the host answers within 2 s."""
DISTURBANCE_PROBABILITY: Final = 0.05
BEGIN, END = b"DB", b"DE"


class AuWriter:
    """Writes records."""

    def __init__(
        self, codes: HostCodes, dialect: frozenset[str], clock: InstrumentClock, random: Random
    ) -> None:
        del dialect, clock
        self._codes, self._number, self._random = codes, 0, random

    def write(self, content: MessageContent, at_s: int) -> HostMessage:
        """Return the record with the results of a control or a patient; records have no time."""
        del at_s
        self._number = self._number % 9999 + 1
        rack_and_cup = f"01{self._random.randrange(1, 1000):04}{self._random.randrange(1, 11):02}"
        if isinstance(content, PatientResults):
            start = f"D {rack_and_cup} {self._number:04}{content.patient.sample:<10}E"
            values = [(self._codes.tests[assay], value) for assay, value in content.values]
        else:
            assay, level, deviation = content.fields
            start = f"DQ{rack_and_cup}Q{self._number:04}{self._codes.control(level):<10}E"
            values = [(self._codes.tests[assay], self._codes.value(assay, level, deviation))]
        text = start + "".join(f"{test}{value:>7}  " for test, value in values)
        return HostMessage(text.encode(), kind=start[:2], log=log_line(content).encode())


class AuTransmitter:
    """Implements `Transmitter` for AU: sends DB, a record and DE, each after the preceding acknowledgement."""

    def __init__(self, dialect: frozenset[str], events: TransmitterEvents, random: Random) -> None:
        self._dialect, self._events, self._random = dialect, events, random
        self._queue: deque[HostMessage] = deque()
        self._records: deque[bytes] = deque()
        self._deadline = 0.0

    @property
    def waiting(self) -> int:
        """See `Transmitter`."""
        return len(self._queue) or len(self._records)

    @property
    def deadline(self) -> float | None:
        """See `Transmitter`."""
        return self._deadline if self.waiting else None

    def enqueue(self, message: HostMessage) -> None:
        """See `Transmitter`."""
        self._queue.append(message)

    def connected(self, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        self._records.clear()
        return self._next(now)

    def receive(self, data: bytes, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        actions: list[TransmitterAction] = []
        for byte in (data[offset : offset + 1] for offset in range(len(data))):
            if byte == ACK and not self._misses():
                self._accepted()
                actions += self._next(now)
            elif byte == NAK and self._queue:
                self._events.refused(self._queue[0], "negative acknowledgement")
                actions += self._next(now)
        return actions

    def expired(self, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        return self._next(now) if not self._records or now >= self._deadline else []

    def closed(self, now: float) -> None:
        """See `Transmitter`."""
        del now
        self._records.clear()

    def _accepted(self) -> None:
        if self._records and self._records.popleft() not in (BEGIN, END):
            self._events.done(self._queue.popleft())

    def _next(self, now: float) -> list[TransmitterAction]:
        if not self._records:
            if not self._queue:
                return []
            self._records.extend((BEGIN, self._queue[0].data, END))
        self._deadline = now + ANSWER_S
        before = extraneous_bytes(self._dialect, self._random, self._queue[0]) if self._queue else b""
        after = b"\r\n" if "crlf-after-record" in self._dialect else b""
        return [Send(before + STX + self._records[0] + ETX + after)]

    def _misses(self) -> bool:
        return "late-acknowledgements" in self._dialect and self._random.random() < DISTURBANCE_PROBABILITY
