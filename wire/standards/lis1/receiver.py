"""The receiving side of a transfer, from ENQ to EOT (LIS1-A 8.2 to 8.4).

LIS1-A describes a line without delays: a sender that has waited 15 s for an answer abandons its bid or transfer with
EOT, and an answer cannot arrive later. TCP delivers data sent during an outage when the outage is over. The sender
would then take the answer to an abandoned ENQ or frame for the answer to its next ENQ, and the answer to that ENQ for
the answer to its next frame: it would be one answer ahead, and consider frames acknowledged that are not stored.
Therefore a bid that is known to be abandoned is not answered, and an answer that arrived too late for its sender
counts as the answer to the next ENQ.
"""

from __future__ import annotations

from typing import Final, Protocol

from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Action, Count, Deliver, Outcome, Send, count_outcome
from wire.standards.extract import Extract, Reason
from wire.standards.lis1.frames import ACK, NAK, REPLY_S, Frame, FrameIdentity

SPARE_S: Final = 2.0
"""Time for which an answer to an abandoned transfer may count as the answer to the next ENQ.

It is longer than the time in which data that TCP held back in an outage arrives, and shorter than the pause of a
sender that has received the answer and aborted.
"""


class MessageReader(Protocol):
    """Reads the messages in the joined texts of accepted frames."""

    def take(self, text: bytes, last: bool) -> Extract | None:
        """Process the text of the next frame; return the findings of the messages that end in it."""
        ...

    def end(self, complete: bool) -> Extract | None:
        """Process the end of a session, `complete` if by EOT; discard and count an unfinished message."""
        ...


class FrameOrder:
    """The order of frames in a session: 1 to 7, 0, 1, …; the first may be 0.

    No frame can be lost between two accepted ones, because the sender waits for each acknowledgement. A first frame 0
    is therefore a deviation of the instrument and not a sign of a lost frame.
    """

    def __init__(self, dialect: AstmDialect) -> None:
        self._any = dialect.frame_numbers != "counted"
        self._last: FrameIdentity | None = None

    def restart(self) -> None:
        """Begin a session."""
        self._last = None

    def accept(self, frame: FrameIdentity) -> None:
        """Record the frame as accepted."""
        self._last = frame

    def repeats(self, frame: Frame) -> bool:
        """Return whether the frame repeats the one accepted last: its number and text are the same."""
        return self._last is not None and frame.number == self._last[0] and frame.identity == self._last

    def continues(self, frame: Frame) -> bool:
        """Return whether the frame is intact and has the next number."""
        expected = (0, 1) if self._last is None else ((self._last[0] + 1) % 8,)
        return frame.intact and (self._any or frame.number in expected)


class Lis1Receiver:
    """Answers the frames of a session.

    A frame that ends a message is answered when the outcome is known. If the findings cannot be stored, the answer is
    NAK, and they are delivered again when the instrument repeats the frame. If they are refused, the answer is ACK:
    LIS1-A has no answer for a correctly received frame whose content is refused, and after NAK the instrument would
    repeat the frame six times and then abandon the session.
    """

    def __init__(self, messages: MessageReader, dialect: AstmDialect) -> None:
        self.is_open = False
        self._messages = messages
        self._order = FrameOrder(dialect)
        self._cut = False
        self._undecided: tuple[FrameIdentity, Extract, float] | None = None
        """The frame delivered last, with its findings and the time of its arrival."""
        self._has_frame = False
        self._answered_at = self._spare_until = float("-inf")

    def enquiry(self, now: float, *, abandoned: bool) -> list[Action]:
        """Process ENQ: begin a session; if one is open, end it as unfinished.

        `abandoned`: the EOT by which the sender gave it up has arrived with it.
        """
        actions = self.end(complete=False)
        self._order.restart()
        self.is_open, self._has_frame = True, False
        return actions if abandoned or now < self._spare_until else [*actions, *self._answer(ACK, now)]

    def cut(self) -> None:
        """Process an interrupted frame; it is counted with the next frame or with the end of the session."""
        self._cut = self.is_open

    def frame(self, frame: Frame, now: float) -> list[Action]:
        """Process a frame."""
        if not self.is_open:
            return [Count(Reason.LITTER)]
        self._has_frame, self._spare_until = True, float("-inf")
        refused: list[Action] = [Count(Reason.FRAME_REFUSED)]
        cut = refused if self._cut else []
        self._cut = False
        if self._undecided is not None and frame.intact and frame.identity == self._undecided[0]:
            self._undecided = *self._undecided[:2], now
            return [*cut, Deliver(self._undecided[1])]
        if frame.intact and self._order.repeats(frame):
            return [*cut, Count(Reason.FRAME_REPEATED), *self._answer(ACK, now)]
        if self._undecided is not None or not self._order.continues(frame):
            return [*cut, *refused, *self._answer(NAK, now)]
        extract = self._messages.take(frame.text, frame.last)
        if extract is not None:
            self._undecided = frame.identity, extract, now
            return [*cut, Deliver(extract)]
        self._order.accept(frame.identity)
        return [*cut, *self._answer(ACK, now)]

    def end(self, complete: bool) -> list[Action]:
        """Process the end of the session, which is `complete` if EOT ended it."""
        cut = self._cut or self._undecided is not None
        self.is_open, self._cut, self._undecided = False, False, None
        extract = self._messages.end(complete)
        unfinished = cut or (extract is not None and extract.counts[Reason.MESSAGE_UNFINISHED] > 0)
        if complete and (unfinished or not self._has_frame):
            self._spare_until = self._answered_at + SPARE_S
        if extract is None and cut:
            return [Count(Reason.MESSAGE_UNFINISHED)]
        return deliver(extract)

    def decided(self, outcome: Outcome, now: float) -> list[Action]:
        """Answer the frame delivered last; there is no answer after EOT, nor after the sender's time limit."""
        undecided = self._undecided
        counts = count_outcome(outcome)
        if undecided is None:
            return counts
        late = now - undecided[2] >= REPLY_S
        if outcome is Outcome.BUSY:
            return counts if late else [*counts, *self._answer(NAK, now)]
        self._undecided = None
        self._order.accept(undecided[0])
        return counts if late else [*counts, *self._answer(ACK, now)]

    def _answer(self, answer: bytes, now: float) -> list[Action]:
        self._answered_at = now
        return [Send(answer)]


def deliver(extract: Extract | None) -> list[Action]:
    """Return the delivery of an extract with findings, or else the counts of the extract."""
    if extract is None:
        return []
    return [Deliver(extract)] if extract.findings else [Count(*each) for each in extract.counts.items()]
