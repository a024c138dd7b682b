"""One end of a LIS1-A line, which receives and sends: the box as host, or a simulated instrument."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Action, Count, Deliver, Outcome
from wire.standards.extract import Reason
from wire.standards.lis1.frames import EOT, Frame, FrameReader, Signal, Token
from wire.standards.lis1.receiver import Lis1Receiver, MessageReader
from wire.standards.lis1.sender import Lis1Sender, Phase

RECEIVER_S: Final = 30.0
"""Time for which a receiver waits for the next byte of a session."""
FRAME_END_S: Final = 0.25
"""Time limit for the CR LF of a frame; longer than the delay of USB adapters and serial converters."""


class Lis1Endpoint:
    """An `Engine` that receives messages and sends sessions; `instrument` shortens its pause in contention."""

    def __init__(self, messages: MessageReader, dialect: AstmDialect, *, instrument: bool = False) -> None:
        self._reader = FrameReader(dialect)
        self._receiver = Lis1Receiver(messages, dialect)
        self._sender = Lis1Sender(instrument=instrument)
        self._undecided = False
        self._receive_until = self._end_until = 0.0

    @property
    def waiting(self) -> int:
        """The number of sessions not yet accepted by the other end."""
        return len(self._sender.waiting)

    @property
    def deadline(self) -> float | None:
        """See `Engine.deadline`."""
        if self._undecided:
            return None
        times = []
        if self._reader.only_end_missing:
            times.append(self._end_until)
        if self._receiver.is_open:
            times.append(self._receive_until)
        elif self._sender.waiting:
            times.append(self._sender.deadline)
        return min(times, default=None)

    def send(self, frames: Iterable[bytes], now: float) -> list[Action]:
        """Queue a session, and begin to send if the line is free."""
        self._sender.add(frames)
        return self._bid(now)

    def receive(self, data: bytes, now: float) -> list[Action]:
        """Process received bytes."""
        self._reader.push(data)
        return self._process(now)

    def decided(self, outcome: Outcome, now: float) -> list[Action]:
        """Answer the frame delivered last, and continue."""
        self._undecided = False
        return self._receiver.decided(outcome, now) + self._process(now)

    def expired(self, now: float) -> list[Action]:
        """Process the end of a time limit."""
        if self.deadline is None or now < self.deadline:
            return []
        if self._reader.only_end_missing and now >= self._end_until and (frame := self._reader.finish()):
            return self._after(self._token(frame, now), now)
        if self._receiver.is_open:
            self._reader.reset()
            return self._after(self._receiver.end(complete=False), now)
        return self._sender.expired(now) if self._sender.phase is not Phase.IDLE else self._bid(now)

    def closed(self, now: float) -> list[Action]:
        """Process the end of the connection. Sessions that were not accepted remain queued."""
        if self._reader.reset():
            self._receiver.cut()
        self._undecided = False
        self._sender.pause(now)
        return self._receiver.end(complete=False)

    def _process(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while (token := self._reader.pull()) is not None:
            actions += self._token(token, now)
            if actions and isinstance(actions[-1], Deliver):
                break
        return self._after(actions, now)

    def _after(self, actions: list[Action], now: float) -> list[Action]:
        self._receive_until, self._end_until = now + RECEIVER_S, now + FRAME_END_S
        self._undecided = bool(actions) and isinstance(actions[-1], Deliver)
        return actions if self._undecided else actions + self._bid(now)

    def _bid(self, now: float) -> list[Action]:
        return [] if self._receiver.is_open or self._undecided else self._sender.bid(now)

    def _token(self, token: Token, now: float) -> list[Action]:
        if self._sender.phase is not Phase.IDLE:
            return self._sender.reply(token, now)
        match token:
            case Frame():
                return self._receiver.frame(token, now)
            case Signal.ENQ:
                return self._receiver.enquiry(now, abandoned=self._reader.next_byte == EOT)
            case Signal.EOT:
                return self._receiver.end(complete=True)
            case Signal.CUT:
                self._receiver.cut()
            case Signal.LITTER:
                return [Count(Reason.LITTER)]
        return []
