"""Messages and answers of an observed connection that wait for each other."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from wire.standards.engine import Action, Count
from wire.standards.extract import Extract, Reason

UNANSWERED_MAX: Final = 16
"""Messages of the instrument that wait for the host's acknowledgement; beyond that the oldest is not stored."""
SKEW_S: Final = 0.1
"""The maximum difference between the delays of the two directions: a listener receives them over two serial ports,
such as USB adapters."""


class EarlyAnswer:
    """An answer of the host that was received before the message that it answers."""

    def __init__(self) -> None:
        self._accepted = False
        self._until = -1.0

    def keep(self, accepted: bool, now: float) -> None:
        """Keep an answer for `SKEW_S`; it replaces an earlier one."""
        self._accepted, self._until = accepted, now + SKEW_S

    def take(self, now: float) -> bool | None:
        """Remove the answer, and return whether it accepts; None if there is none."""
        is_kept, self._until = now <= self._until, -1.0
        return self._accepted if is_kept else None


@dataclass(frozen=True, slots=True)
class _Message:
    control_id: bytes
    extract: Extract


class Unanswered:
    """Keeps findings by the control id of their message, never its bytes."""

    def __init__(self) -> None:
        self._messages: deque[_Message] = deque()

    def add(self, control_id: bytes, extract: Extract) -> list[Action]:
        """Keep a message; a repetition of a message that is already kept is the same message."""
        new = _Message(control_id, extract)
        if new in self._messages:
            return []
        self._messages.append(new)
        if len(self._messages) <= UNANSWERED_MAX:
            return []
        self._messages.popleft()
        return [Count(Reason.NOT_STORED)]

    def take(self, control_id: bytes) -> Extract | None:
        """Remove the oldest message with this control id, and return its findings."""
        message = next((each for each in self._messages if each.control_id == control_id), None)
        if message is None:
            return None
        self._messages.remove(message)
        return message.extract

    def clear(self) -> list[Action]:
        """Discard and count all messages."""
        lost: list[Action] = [Count(Reason.NOT_STORED, len(self._messages))] if self._messages else []
        self._messages.clear()
        return lost
