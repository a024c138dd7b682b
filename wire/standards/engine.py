"""The interface of an engine: one port's protocol as a state machine of bytes and times.

The driver (`agents.box.intake`) passes received bytes and the time to the engine and executes the returned actions in
order. `Deliver` is always the last action of a list: the engine then keeps the bytes that follow the message and
waits for `decided`, which the driver calls after the findings are durable or could not be stored. The acknowledgement
is among the actions of `decided`, and therefore never sent before the findings are durable. Meanwhile the driver
receives nothing, so that an engine keeps no more bytes than one `receive` passed to it.

An `Observer` has the roles listener and pass-through: it follows both directions of a connection between an
instrument and the laboratory's host and sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from wire.standards.extract import Extract, Reason


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes to the instrument, `after_s` seconds after receiving the bytes that they answer."""

    data: bytes
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deliver:
    """Store the findings of a message durably and report the outcome by `decided`.

    `after_s` delays this, in seconds from the bytes that caused it: an answer that may not be sent earlier then
    follows soon after the storage, which makes a power failure between the two unlikely.
    """

    extract: Extract
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Count:
    """Count an event that does not belong to a complete message."""

    reason: Reason
    number: int = 1


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection, because the standard requires it or the peer is dead."""


CommandOutcome: TypeAlias = Literal["done", "refused", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """Report the outcome of a command as a `CommandResult`; `decided` is not called for it."""

    command: int
    outcome: CommandOutcome


Action: TypeAlias = Send | Deliver | Count | Close | CommandEnded


class Outcome(Enum):
    """The outcome of storing delivered findings. The engine counts `NOT_STORED` and `MESSAGE_REFUSED`."""

    STORED = "stored"
    """Durable, now or since an earlier delivery: acknowledge."""
    BUSY = "busy"
    """Cannot be stored now: do not acknowledge; the instrument repeats the message."""
    REFUSED = "refused"
    """Will never be accepted, for example because of a word outside the profile: refuse as the standard specifies."""


_COUNTS: Final = {
    Outcome.STORED: (),
    Outcome.BUSY: (Reason.NOT_STORED,),
    Outcome.REFUSED: (Reason.MESSAGE_REFUSED,),
}


def count_outcome(outcome: Outcome) -> list[Action]:
    """Return the count of a message that was not stored."""
    return [Count(reason) for reason in _COUNTS[outcome]]


class _StateMachine(Protocol):
    """The members that engines and observers share. Times are in seconds of a monotonic clock."""

    def decided(self, outcome: Outcome, now: float) -> list[Action]:
        """Continue after the findings of the last `Deliver` were stored or not."""
        ...

    def closed(self, now: float) -> list[Action]:
        """Process the end of the connection: count incomplete messages. Returns no `Send`."""
        ...


class Engine(_StateMachine, Protocol):
    """One connection or line to an instrument."""

    @property
    def deadline(self) -> float | None:
        """The time to call `expired` if no bytes arrive before; None if there is no time limit."""
        ...

    def expired(self, now: float) -> list[Action]:
        """Process the end of a time limit; does nothing before `deadline`."""
        ...

    def receive(self, data: bytes, now: float) -> list[Action]:
        """Process received bytes; may not be called while a `Deliver` is undecided."""
        ...


@runtime_checkable
class Commander(Protocol):
    """An engine that can send commands to the instrument."""

    def command(self, number: int, verb: str, now: float) -> list[Action]:
        """Send a command of the data center to the instrument.

        `CommandEnded` follows: immediately if the standard has no such command, at `closed` at the latest.
        """
        ...


class Observer(_StateMachine, Protocol):
    """An observed connection between an instrument and a host. A message counts once the host has accepted it.

    Its actions are `Deliver`, always the last of a list, and `Count`. It never delays or changes anything.
    """

    def from_instrument(self, data: bytes, now: float) -> list[Action]:
        """Process bytes from the instrument; may not be called while a `Deliver` is undecided."""
        ...

    def from_host(self, data: bytes, now: float) -> list[Action]:
        """Process bytes from the host; may not be called while a `Deliver` is undecided."""
        ...
