"""Observes a LIS1-A connection between an instrument and the laboratory's host in both directions.

A frame counts when the host acknowledges it; one that the host refuses is not read. If the host acknowledges a frame
that is not intact or not the next one, the observer has missed something: the message is discarded and counted.

If the host is not observed, an intact frame counts as acknowledged. If the host refuses it nevertheless, the
instrument repeats it, and the repetition is recognized.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Action, Count, Deliver, Outcome, count_outcome
from wire.standards.extract import Reason
from wire.standards.lis1.frames import FRAME_BYTES_MAX, Frame, FrameReader, Signal, Token
from wire.standards.lis1.receiver import FrameOrder, MessageReader, deliver
from wire.standards.unanswered import SKEW_S, EarlyAnswer

UNANSWERED_MAX: Final = 64
"""Maximum number of ENQ, frames and EOT that an instrument may send without waiting for answers."""


class SendingEnd(Enum):
    """The end that is sending."""

    NEUTRAL = "neither; bytes of the instrument are not read"
    INSTRUMENT = "the instrument"
    HOST = "the host, or it has sent ENQ"


class Lis1Observer:
    """Delivers the messages that the host has accepted (`wire.standards.engine.Observer`).

    Findings that cannot be stored are counted and lost, because the host has already acknowledged them.
    """

    def __init__(self, messages: MessageReader, dialect: AstmDialect, *, host_observed: bool = True) -> None:
        self._messages = messages
        self._host_observed = host_observed
        self._instrument, self._host = FrameReader(dialect), FrameReader(dialect)
        self._order = FrameOrder(dialect)
        self._session = SendingEnd.NEUTRAL
        self._unanswered: deque[Frame | Signal] = deque()
        """ENQ and frames that the host has not answered, and EOT after them; usually one."""
        self._early, self._now = EarlyAnswer(), 0.0
        self._eot_at = 0.0

    def from_instrument(self, data: bytes, now: float) -> list[Action]:
        """Process bytes from the instrument."""
        self._now = now
        self._instrument.push(data)
        return self._process()

    def from_host(self, data: bytes, now: float) -> list[Action]:
        """Process bytes from the host."""
        self._now = now
        self._host.push(data)
        return self._process()

    def decided(self, outcome: Outcome, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Count findings that were not stored, and continue."""
        return count_outcome(outcome) + self._process()

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Count an unfinished message."""
        self._instrument.reset()
        self._host.reset()
        return self._end(SendingEnd.NEUTRAL, complete=False)

    def _process(self) -> list[Action]:
        """Process the instrument's tokens, then the host's, which answer them; stop at a delivery."""
        actions: list[Action] = []
        while not (actions and isinstance(actions[-1], Deliver)):
            if self._unanswered and self._unanswered[0] is Signal.EOT:
                after = list(self._unanswered)[1:]
                actions += self._end(SendingEnd.NEUTRAL, complete=True)
                self._unanswered.extend(after)
            elif self._unanswered and (accepted := self._known_answer(self._unanswered[0])) is not None:
                actions += self._answered(accepted=accepted)
            elif (token := self._instrument.pull()) is not None:
                actions += self._from_instrument(token)
            elif (token := self._host.pull()) is not None:
                actions += self._from_host(token)
            else:
                break
        return actions

    def _known_answer(self, token: Frame | Signal) -> bool | None:
        """Return the answer that the host has given before, or is assumed to give if it is not observed."""
        if self._host_observed:
            return self._early.take(self._now)
        return not isinstance(token, Frame) or token.intact

    def _from_instrument(self, token: Token) -> list[Action]:
        if token is Signal.ENQ and self._is_answer_under_way():
            return self._wait_for_answer(token)
        if token is Signal.ENQ:
            bids = self._session is not SendingEnd.HOST
            actions = self._end(SendingEnd.NEUTRAL, complete=False)
            self._unanswered.extend([token] * bids)
            return actions
        if token is Signal.LITTER:
            return [Count(Reason.LITTER)]
        in_session = bool(self._unanswered) or self._session is SendingEnd.INSTRUMENT
        if in_session and (isinstance(token, Frame) or token is Signal.EOT):
            self._eot_at = self._now
            return self._wait_for_answer(token)
        return []

    def _is_answer_under_way(self) -> bool:
        """Return whether a session has ended, but its last frame's answer may still be delayed in another port."""
        return Signal.EOT in self._unanswered and self._now <= self._eot_at + SKEW_S

    def _wait_for_answer(self, token: Frame | Signal) -> list[Action]:
        """Keep a token until the host answers it; ignore its repetition, since the host answers both only once."""
        if self._unanswered and self._unanswered[-1] == token:
            return []
        self._unanswered.append(token)
        text_bytes = sum(len(each.text) for each in self._unanswered if isinstance(each, Frame))
        if text_bytes <= FRAME_BYTES_MAX and len(self._unanswered) <= UNANSWERED_MAX:
            return []
        return [Count(Reason.FRAME_REFUSED), *self._end(SendingEnd.NEUTRAL, complete=False)]

    def _from_host(self, token: Token) -> list[Action]:
        if token is Signal.ENQ:
            contention = bool(self._unanswered)
            return self._end(SendingEnd.NEUTRAL if contention else SendingEnd.HOST, complete=False)
        if self._session is SendingEnd.HOST:
            self._session = SendingEnd.NEUTRAL if token is Signal.EOT else SendingEnd.HOST
            return []
        if token in (Signal.ACK, Signal.EOT):
            return self._answered(accepted=True)
        return self._answered(accepted=False) if token is Signal.NAK else []

    def _answered(self, *, accepted: bool) -> list[Action]:
        if frame := self._instrument.finish():  # its CR LF has not arrived, but the host has answered it
            self._from_instrument(frame)
        if not self._unanswered:
            self._early.keep(accepted, self._now)
            return []
        token = self._unanswered.popleft()
        if not isinstance(token, Frame):
            self._session = SendingEnd.INSTRUMENT if accepted else SendingEnd.NEUTRAL
            return []
        return self._accept(token) if accepted else [Count(Reason.FRAME_REFUSED)]

    def _accept(self, frame: Frame) -> list[Action]:
        if frame.intact and self._order.repeats(frame):
            return [Count(Reason.FRAME_REPEATED)]
        if not self._order.continues(frame):
            return [Count(Reason.FRAME_REFUSED), *self._end(SendingEnd.NEUTRAL, complete=False)]
        self._order.accept(frame.identity)
        return deliver(self._messages.take(frame.text, frame.last))

    def _end(self, session: SendingEnd, *, complete: bool) -> list[Action]:
        self._session = session
        self._unanswered.clear()
        self._order.restart()
        return deliver(self._messages.end(complete))
