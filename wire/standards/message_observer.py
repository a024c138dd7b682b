"""Observes standards whose host acknowledges each message by its control id: HL7 over MLLP and POCT1-A.

A message of the instrument is delivered when the host has accepted it. Until then only its findings are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

from wire.standards.engine import Action, Count, Deliver, Outcome
from wire.standards.extract import Extract, Reason
from wire.standards.unanswered import Unanswered

Message = TypeVar("Message")
Message_co = TypeVar("Message_co", covariant=True)


class Reader(Protocol[Message_co]):
    """Finds messages in a stream of bytes."""

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        ...

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        ...

    def next(self) -> Message_co | Reason | None:
        """Return the next message, or the event found instead; None if more bytes are needed."""
        ...


class MessageObserver(ABC, Generic[Message]):
    """Engine that observes one connection (`wire.standards.engine.Observer`), with a reader for each direction."""

    def __init__(self, instrument: Reader[Message], host: Reader[Message]) -> None:
        self._instrument, self._host = instrument, host
        self._unanswered = Unanswered()
        self._undecided = False

    @abstractmethod
    def _read_instrument(self, message: Message) -> list[Action]:
        """Keep the findings of a message in `_unanswered`, or count it."""

    @abstractmethod
    def _accepted(self, message: Message) -> Extract | None:
        """Return the findings that a message of the host accepts; they are removed from `_unanswered`."""

    def from_instrument(self, data: bytes, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Process bytes of the instrument."""
        self._instrument.feed(data)
        return self._proceed()

    def from_host(self, data: bytes, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Process bytes of the host."""
        self._host.feed(data)
        return self._proceed()

    def decided(self, outcome: Outcome, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Continue; findings that could not be stored are counted and lost, since the host has acknowledged them."""
        self._undecided = False
        lost: list[Action] = [] if outcome is Outcome.STORED else [Count(Reason.NOT_STORED)]
        return lost + self._proceed()

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Count an unfinished message, and messages that the host has not acknowledged."""
        actions: list[Action] = [Count(Reason.MESSAGE_UNFINISHED)] if self._instrument.inside else []
        return actions + self._unanswered.clear()

    def _proceed(self) -> list[Action]:
        actions: list[Action] = []
        while (message := self._instrument.next()) is not None:
            actions += [Count(message)] if isinstance(message, Reason) else self._read_instrument(message)
        while not self._undecided and (answer := self._host.next()) is not None:
            if not isinstance(answer, Reason) and (extract := self._accepted(answer)) is not None:
                self._undecided = True
                actions.append(Deliver(extract))
        return actions
