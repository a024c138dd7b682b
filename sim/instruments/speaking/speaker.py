"""The interface of a speaker: the instrument's end of a connection, as a state machine of bytes and times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from settings.profile import Verb
from sim.instruments.speaking.content import SpokenMessage
from wire.standards.engine import Close, Send


@dataclass(frozen=True, slots=True)
class Vanish:
    """Abandon the connection without closing it, as after a restart or a pulled cable."""


SpeakerAction: TypeAlias = Send | Close | Vanish


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a speaker tells about its messages."""

    done: Callable[[SpokenMessage], None]
    """The box has acknowledged it."""
    refused: Callable[[SpokenMessage, str], None]
    """The box has refused it, with that answer, although it was right."""
    commanded: Callable[[Verb], None] = lambda _: None
    """The box sent this command."""


class Speaker(Protocol):
    """Sends messages in order until each is acknowledged. Times are in seconds of a monotonic clock."""

    @property
    def waiting(self) -> int:
        """The number of messages that are not acknowledged."""
        ...

    @property
    def deadline(self) -> float | None:
        """When `expired` must be called if nothing arrives before; None if nothing is waited for."""
        ...

    def tell(self, message: SpokenMessage) -> None:
        """Append a message to those that are sent; it is sent by the next `expired`."""
        ...

    def connected(self, now: float) -> list[SpeakerAction]:
        """Begin a connection."""
        ...

    def receive(self, data: bytes, now: float) -> list[SpeakerAction]:
        """Process received bytes."""
        ...

    def expired(self, now: float) -> list[SpeakerAction]:
        """Process the end of a time limit, and messages that were appended."""
        ...

    def closed(self, now: float) -> None:
        """Process the end of the connection: what was not acknowledged is sent again on the next one."""
        ...
