"""The interface of transmitters: the instrument's end of a connection, as a sans-I/O state machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from settings.profile import Verb
from sim.instruments.host_interface.content import HostMessage
from wire.standards.engine import Close, Send


@dataclass(frozen=True, slots=True)
class Abandon:
    """Abandon the connection without closing it, as after a restart or a pulled cable."""


TransmitterAction: TypeAlias = Send | Close | Abandon


@dataclass(frozen=True, slots=True)
class TransmitterEvents:
    """Callbacks for the results of a transmitter's messages."""

    done: Callable[[HostMessage], None]
    """The box has acknowledged the message."""
    refused: Callable[[HostMessage, str], None]
    """The box has refused a valid message, with this answer."""
    commanded: Callable[[Verb], None] = lambda _: None
    """The box has sent a command."""


class Transmitter(Protocol):
    """Sends messages in order until each is acknowledged. Times are in seconds of a monotonic clock."""

    @property
    def waiting(self) -> int:
        """The number of messages that are not acknowledged."""
        ...

    @property
    def deadline(self) -> float | None:
        """The time at which `expired` must be called if no bytes arrive before; None without a time limit."""
        ...

    def enqueue(self, message: HostMessage) -> None:
        """Append a message to the queue; the next `expired` sends it."""
        ...

    def connected(self, now: float) -> list[TransmitterAction]:
        """Begin a connection."""
        ...

    def receive(self, data: bytes, now: float) -> list[TransmitterAction]:
        """Process received bytes."""
        ...

    def expired(self, now: float) -> list[TransmitterAction]:
        """Process the end of a time limit, and messages that were appended."""
        ...

    def closed(self, now: float) -> None:
        """Process the end of the connection. Unacknowledged messages are sent again on the next one."""
        ...
