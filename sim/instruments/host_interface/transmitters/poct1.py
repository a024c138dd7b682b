"""The instrument's end of POCT1-A: hello, the documents that the box requests, and then continuous mode.

    instrument  HEL.R01  DST.R01       OBS…  EOT.R01            EVS…  EOT.R01        OBS, EVS, DST …
    box               ACK      ACK REQ     ACK       REQ(RDEV)     ACK        DTV       ACK …

A document that is not answered within 30 s ends the connection. Unacknowledged documents are sent on the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

from sim.instruments.host_interface.content import HostMessage
from sim.instruments.host_interface.transmitters.transmitter import (
    Abandon,
    TransmitterAction,
    TransmitterEvents,
)
from sim.instruments.host_interface.writers.poct1 import Poct1Writer
from wire.standards.engine import Close, Send
from wire.standards.poct1a.documents import DocumentReader, PoctDocument

ANSWER_S: Final = 30.0
DISTURBANCE_PROBABILITY: Final = 0.04
_EVENTS: Final = "EVS.R01"
_OBSERVATIONS: Final = ("OBS.R01", "OBS.R02")


class Poct1Transmitter:
    """Implements `Transmitter` for POCT1-A."""

    def __init__(
        self,
        dialect: frozenset[str],
        events: TransmitterEvents,
        writer: Poct1Writer,
        now_s: Callable[[], int],
        random: Random,
    ) -> None:
        self._dialect, self._events, self._writer = dialect, events, writer
        self._now_s, self._random = now_s, random
        self._queue: deque[HostMessage] = deque()
        self._deadline: float | None = None
        self._begin()

    def _begin(self) -> None:
        self._reader = DocumentReader()
        self._sent: HostMessage | None = None
        self._topic: tuple[str, ...] = ()
        """The kinds of documents that the box has requested."""
        self._continuous = False
        self._summarized: HostMessage | None = None
        """The queued status that the summary in flight contains."""

    @property
    def waiting(self) -> int:
        """See `Transmitter`."""
        return len(self._queue)

    @property
    def deadline(self) -> float | None:
        """See `Transmitter`."""
        return self._deadline

    def enqueue(self, message: HostMessage) -> None:
        """See `Transmitter`."""
        self._queue.append(message)

    def connected(self, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        self._begin()
        return self._send(self._writer.hello(self._now_s()), now)

    def receive(self, data: bytes, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        self._reader.feed(data)
        actions: list[TransmitterAction] = []
        while (document := self._reader.next()) is not None:
            if isinstance(document, PoctDocument):
                actions += self._process(document.data.decode("latin-1"), now)
        return actions

    def expired(self, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        if self._deadline is not None and now >= self._deadline:
            return [Close()]
        return self._report(now) if self._sent is None else []

    def closed(self, now: float) -> None:
        """See `Transmitter`."""
        del now
        self._begin()
        self._deadline = None

    def _send(self, message: HostMessage, now: float) -> list[TransmitterAction]:
        self._sent, self._deadline = message, now + ANSWER_S
        if message in self._queue:
            if self._occurs("half-open"):
                return [Send(message.data), Abandon()]
            if self._occurs("aborts-transfers"):
                return [Send(message.data[: self._random.randrange(1, len(message.data))]), Close()]
        return [Send(message.data)]

    def _process(self, text: str, now: float) -> list[TransmitterAction]:
        if "<ACK.R01>" in text:
            return self._acknowledged(_value(text, "ACK.type_cd"), _value(text, "ACK.ack_control_id"), now)
        if "<REQ.R01>" in text:
            self._topic = (_EVENTS,) if _value(text, "REQ.request_cd") == "RDEV" else _OBSERVATIONS
            return self._report(now)
        if "<DTV.R01>" in text:
            self._continuous = True
            return self._report(now)
        return [Close()]  # END.R01

    def _acknowledged(self, code: str, control_id: str, now: float) -> list[TransmitterAction]:
        sent = self._sent
        if sent is None or control_id.encode() != sent.control_id:
            return []
        self._sent, self._deadline = None, None
        if sent.kind == "HEL.R01":
            return self._summarize(now)
        acknowledged, self._summarized = self._summarized or sent, None
        if acknowledged in self._queue:
            if code != "AA":
                self._events.refused(acknowledged, code)
                return [Close()]
            self._queue.remove(acknowledged)
            self._events.done(acknowledged)
        return self._report(now)

    def _summarize(self, now: float) -> list[TransmitterAction]:
        """Send the first queued status with the numbers of the other queued documents."""
        observations = sum(message.kind in _OBSERVATIONS for message in self._queue)
        events = sum(message.kind == _EVENTS for message in self._queue)
        self._summarized = next((message for message in self._queue if message.kind == "DST.R01"), None)
        summary = self._writer.summary(self._summarized, observations, events, self._now_s())
        return self._send(summary, now)

    def _report(self, now: float) -> list[TransmitterAction]:
        """Send the next document of the topic; after the last, EOT.R01."""
        if self._sent is not None:
            return []
        if self._topic:
            message = next((queued for queued in self._queue if queued.kind in self._topic), None)
            if message is not None:
                return self._send(message, now)
            topic = "EVS" if self._topic == (_EVENTS,) else "OBS"
            self._topic = ()
            return self._end_topic(topic, now)
        return self._send(self._queue[0], now) if self._continuous and self._queue else []

    def _end_topic(self, topic: str, now: float) -> list[TransmitterAction]:
        end = self._writer.document("EOT.R01", f'<EOT><EOT.topic_cd V="{topic}"/></EOT>', self._now_s())
        if "end-of-topic-acknowledged" in self._dialect:
            return self._send(end, now)
        return [Send(end.data)]

    def _occurs(self, option: str) -> bool:
        return option in self._dialect and self._random.random() < DISTURBANCE_PROBABILITY


def _value(text: str, name: str) -> str:
    """Return the value of an element in a document of the box."""
    return text.partition(f'<{name} V="')[2].partition('"')[0]
