"""The receiving side of a transfer, from ENQ to EOT (LIS1-A 8.2 to 8.4)."""

from __future__ import annotations

from typing import Protocol

from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Action, Count, Deliver, Outcome, Send
from wire.standards.extract import Extract, Reason
from wire.standards.lis1.frames import ACK, NAK, Frame, FrameIdentity


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
        due = (0, 1) if self._last is None else ((self._last[0] + 1) % 8,)
        return frame.intact and (self._any or frame.number in due)


class Receiver:
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
        self._undecided: tuple[FrameIdentity, Extract] | None = None

    def enquiry(self) -> list[Action]:
        """Process ENQ: begin a session; if one is open, end it as unfinished."""
        actions = self.end(complete=False)
        self._order.restart()
        self.is_open = True
        return [*actions, Send(ACK)]

    def cut(self) -> None:
        """Process an interrupted frame; it is counted with the next frame or with the end of the session."""
        self._cut = self.is_open

    def frame(self, frame: Frame) -> list[Action]:
        """Process a frame."""
        if not self.is_open:
            return [Count(Reason.LITTER)]
        refused: list[Action] = [Count(Reason.FRAME_REFUSED)]
        before = refused if self._cut else []
        self._cut = False
        if self._undecided is not None and frame.intact and frame.identity == self._undecided[0]:
            return [*before, Deliver(self._undecided[1])]
        if frame.intact and self._order.repeats(frame):
            return [*before, Count(Reason.FRAME_REPEATED), Send(ACK)]
        if self._undecided is not None or not self._order.continues(frame):
            return [*before, *refused, Send(NAK)]
        extract = self._messages.take(frame.text, frame.last)
        if extract is not None:
            self._undecided = frame.identity, extract
            return [*before, Deliver(extract)]
        self._order.accept(frame.identity)
        return [*before, Send(ACK)]

    def end(self, complete: bool) -> list[Action]:
        """Process the end of the session, which is `complete` if EOT ended it."""
        cut = self._cut or self._undecided is not None
        self.is_open, self._cut, self._undecided = False, False, None
        extract = self._messages.end(complete)
        if extract is None and cut:
            return [Count(Reason.MESSAGE_UNFINISHED)]
        return deliver(extract)

    def decided(self, outcome: Outcome) -> list[Action]:
        """Answer the frame delivered last; there is no answer after EOT."""
        undecided = self._undecided
        counts: list[Action] = [Count(reason) for reason in _COUNTS[outcome]]
        if undecided is None:
            return counts
        if outcome is Outcome.BUSY:
            return [*counts, Send(NAK)]
        self._undecided = None
        self._order.accept(undecided[0])
        return [*counts, Send(ACK)]


_COUNTS = {
    Outcome.STORED: [],
    Outcome.BUSY: [Reason.NOT_STORED],
    Outcome.REFUSED: [Reason.MESSAGE_REFUSED],
}


def deliver(extract: Extract | None) -> list[Action]:
    """Return the delivery of an extract with findings, or else the counts of the extract."""
    if extract is None:
        return []
    return [Deliver(extract)] if extract.findings else [Count(*each) for each in extract.counts.items()]
