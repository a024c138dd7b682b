"""Commands to an instrument in HL7 v2, chapter 13: INR^U06 (inventory request) and LSR^U13 (log and service request).

A command is sent again, with the same MSH-10, if it is not answered within `ANSWER_S` seconds, and given up after
`TRIES` attempts, with the outcome "unknown". One that was accepted (CA) is not sent again; without a final answer,
its outcome is "done". An answer names the MSH-10 of its command in MSA-2; answers to no pending command are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wire.standards.engine import Action, CommandEnded, CommandOutcome, Count, Send
from wire.standards.er7 import Er7Message
from wire.standards.extract import Reason
from wire.standards.hl7.replies import MessageNumbers
from wire.standards.mllp import frame

ANSWER_S: Final = 30.0
TRIES: Final = 3
_OUTCOMES: Final[dict[bytes, CommandOutcome]] = {
    **dict.fromkeys((b"AA",), "done"),
    **dict.fromkeys((b"AE", b"CE"), "failed"),
    **dict.fromkeys((b"AR", b"CR"), "refused"),
}
_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}


@dataclass(slots=True)
class _Pending:
    """A command without a final answer."""

    number: int
    frame: bytes
    deadline: float
    tries: int = 1
    accepted: bool = False
    """Whether CA was received: the instrument has the command, which is not sent again."""


class Commands:
    """The commands sent on one connection that have no final answer yet."""

    def __init__(self, equipment: str, tests: Iterable[str], numbers: MessageNumbers) -> None:
        self._equipment = equipment
        self._tests = list(tests)
        self._numbers = numbers
        self._pending: dict[bytes, _Pending] = {}

    @property
    def deadlines(self) -> list[float]:
        """The times at which commands must be sent again or given up."""
        return [pending.deadline for pending in self._pending.values()]

    def send(self, number: int, verb: str, now: float) -> list[Action]:
        """Send a command; refuse one without a message in the standard, or an inventory request without tests."""
        stamp, own_id = self._numbers.next()
        if verb == "send-inventory" and self._tests:
            segments = ["INR^U06^INR_U06", *(f"INV|{_escaped(test)}|OK^^HL70383" for test in self._tests)]
        elif verb == "data-upload":
            segments = ["LSR^U13^LSU_U12", f'EQP|LOG^^HL70450||{stamp.decode()}||""']
        else:
            return [CommandEnded(number, "refused")]
        kind, *rest = segments
        time, equipment = stamp.decode(), self._equipment
        header = f"MSH|^~\\&|RAP||{equipment}||{time}||{kind}|{own_id.decode()}|P|2.5.1||||||UNICODE UTF-8"
        equipment_segment = f"EQU|{equipment}|{time}"
        message = "".join(f"{segment}\r" for segment in (header, equipment_segment, *rest))
        pending = _Pending(number, frame(message.encode()), now + ANSWER_S)
        self._pending[own_id] = pending
        return [Send(pending.frame)]

    def answered(self, message: Er7Message) -> list[Action]:
        """Process an acknowledgement."""
        code, own_id = next(
            ((msa.first(1), msa.raw(2)) for msa in message.segments() if msa.name == b"MSA"), (b"", b"")
        )
        pending = self._pending.get(own_id)
        if pending is None or (code != b"CA" and code not in _OUTCOMES):
            return [Count(Reason.MESSAGE_IGNORED)]
        if code == b"CA":
            pending.accepted = True
            return []
        del self._pending[own_id]
        return [CommandEnded(pending.number, _OUTCOMES[code])]

    def expired(self, now: float) -> list[Action]:
        """Send commands again that have not been answered in time, or give them up."""
        actions: list[Action] = []
        for own_id, pending in list(self._pending.items()):
            if now < pending.deadline:
                continue
            if pending.accepted or pending.tries >= TRIES:
                del self._pending[own_id]
                actions.append(CommandEnded(pending.number, "done" if pending.accepted else "unknown"))
            else:
                pending.tries += 1
                pending.deadline = now + ANSWER_S
                actions.append(Send(pending.frame))
        return actions

    def closed(self) -> list[Action]:
        """Give up all commands."""
        ended: list[Action] = [
            CommandEnded(pending.number, "done" if pending.accepted else "unknown")
            for pending in self._pending.values()
        ]
        self._pending.clear()
        return ended


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
