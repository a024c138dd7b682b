"""The instrument's end of MLLP: sends one message, or several, and waits for the acknowledgement of each.

A message that is not answered within 30 s is sent again; after three attempts the connection is reopened. A
refused message is sent again after 30 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

from settings.profile import Verb
from sim.instruments.host_interface.content import HostMessage
from sim.instruments.host_interface.extraneous import extraneous_bytes
from sim.instruments.host_interface.transmitters.transmitter import (
    Abandon,
    TransmitterAction,
    TransmitterEvents,
)
from wire.standards.engine import Close, Send
from wire.standards.er7 import Er7Message, Segment
from wire.standards.mllp import Block, BlockReader

ANSWER_S: Final = 30.0
TRIES_MAX: Final = 3
WINDOW: Final = 4
"""The number of messages in flight of an instrument that pipelines messages."""
DISTURBANCE_PROBABILITY: Final = 0.05
_VERBS: Final[dict[bytes, Verb]] = {b"INR": "send-inventory", b"LSR": "data-upload"}


class MllpTransmitter:
    """Implements `Transmitter` for HL7; `answer` writes the acknowledgement of a command."""

    def __init__(
        self,
        dialect: frozenset[str],
        events: TransmitterEvents,
        answer: Callable[[bytes, str], bytes],
        random: Random,
    ) -> None:
        self._dialect, self._events, self._answer, self._random = dialect, events, answer, random
        self._window = WINDOW if "pipelined" in dialect else 1
        self._queue: deque[HostMessage] = deque()
        self._in_flight: list[HostMessage] = []
        self._repeated: HostMessage | None = None
        """An acknowledged message that was sent again and whose second answer is outstanding."""
        self._deadline = 0.0
        self._pause_until = 0.0
        self._tries = 0
        self._reader = BlockReader()

    @property
    def waiting(self) -> int:
        """See `Transmitter`."""
        return len(self._queue) + len(self._in_flight)

    @property
    def deadline(self) -> float | None:
        """See `Transmitter`."""
        if self._in_flight or self._repeated:
            return self._deadline
        return self._pause_until if self._queue else None

    def enqueue(self, message: HostMessage) -> None:
        """See `Transmitter`."""
        self._queue.append(message)

    def connected(self, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        self._reader, self._tries = BlockReader(), 0
        return self._proceed(now)

    def receive(self, data: bytes, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        self._reader.feed(data)
        actions: list[TransmitterAction] = []
        while (block := self._reader.next()) is not None:
            if isinstance(block, Block):
                actions += self._process(Er7Message(block.data, block.length), now)
        return actions + self._proceed(now)

    def expired(self, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        if (self._in_flight or self._repeated) and now < self._deadline:
            return []
        self._repeated = None
        if not self._in_flight:
            return self._proceed(now)
        self._tries += 1
        return [Close()] if self._tries == TRIES_MAX else self._transmit(now)

    def closed(self, now: float) -> None:  # noqa: ARG002 - the time is not needed
        """See `Transmitter`."""
        self._queue.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        self._repeated = None

    def _proceed(self, now: float) -> list[TransmitterAction]:
        if self._in_flight or self._repeated or not self._queue or now < self._pause_until:
            return []
        self._tries = 0
        self._in_flight = [self._queue.popleft() for _ in range(min(self._window, len(self._queue)))]
        if self._occurs("half-open"):
            return [Send(self._bytes_of(self._in_flight[0])), Abandon()]
        if self._occurs("aborts-transfers"):
            data = self._in_flight[0].data
            return [Send(data[: self._random.randrange(1, len(data))]), Close()]
        return self._transmit(now)

    def _transmit(self, now: float) -> list[TransmitterAction]:
        self._deadline = now + ANSWER_S
        return [Send(b"".join(map(self._bytes_of, self._in_flight)))]

    def _bytes_of(self, message: HostMessage) -> bytes:
        after = b"\n" if "lf-after-message" in self._dialect else b""
        return extraneous_bytes(self._dialect, self._random, message) + message.data + after

    def _process(self, message: Er7Message, now: float) -> list[TransmitterAction]:
        kind = message.header.component(9, 1)
        if kind in _VERBS:
            event = message.header.component(9, 2).decode()
            self._events.commanded(_VERBS[kind])
            return [Send(self._answer(message.header.raw(10), event))]
        answer = next((segment for segment in message.segments() if segment.name == b"MSA"), None)
        return [] if answer is None else self._acknowledged(answer, now)

    def _acknowledged(self, answer: Segment, now: float) -> list[TransmitterAction]:
        code, control_id = answer.first(1), answer.raw(2)
        message = next((sent for sent in self._in_flight if sent.control_id == control_id), None)
        if message is None:
            self._repeated = None
            return []
        if code == b"CA":
            return []  # the application's answer follows
        if code != b"AA":
            self._events.refused(message, code.decode("latin-1"))
            self._pause_until = now + ANSWER_S
            self.closed(now)
            return []
        self._in_flight.remove(message)
        self._events.done(message)
        if not self._in_flight and self._occurs("repeats-unasked"):
            self._repeated, self._deadline = message, now + ANSWER_S
            return [Send(self._bytes_of(message))]
        return []

    def _occurs(self, option: str) -> bool:
        return option in self._dialect and self._random.random() < DISTURBANCE_PROBABILITY
