"""The box as the host of an instrument that speaks HL7 v2 over MLLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from settings.adapted import AdaptedPort
from wire.standards.engine import Action, Close, Count, Deliver, Outcome, Send
from wire.standards.er7 import Er7Error, Er7Message
from wire.standards.extract import Extract, Reason
from wire.standards.hl7.commands import Commands
from wire.standards.hl7.content import READERS, MessageTreatment, kind_of
from wire.standards.hl7.replies import (
    Answer,
    MessageNumbers,
    ReplyHeader,
    acknowledgement_codes,
    write_reply,
)
from wire.standards.hl7.site import Hl7Site
from wire.standards.mllp import Block, BlockReader, frame

_BY_OUTCOME: Final = {
    Outcome.STORED: Answer.ACCEPT,
    Outcome.BUSY: Answer.BUSY,
    Outcome.REFUSED: Answer.UNKNOWN_WORD,
}
_REASONS: Final = {Outcome.BUSY: Reason.NOT_STORED, Outcome.REFUSED: Reason.MESSAGE_REFUSED}


class Hl7Receiver:
    """Engine of one connection (`wire.standards.engine.Engine`). `clock_ms` is the box's time, for MSH-7.

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    def __init__(self, port: AdaptedPort, clock_ms: Callable[[], int], now: float = 0.0) -> None:
        self._site = Hl7Site(port)
        self._dialect = self._site.dialect
        self._numbers = MessageNumbers(clock_ms, port.timezone)
        self._reader = BlockReader(fs_ends=self._site.fs_ends)
        self._undecided: ReplyHeader | None = None
        self._last_received = now
        self._commands = Commands(self._dialect.equipment, port.tests, self._numbers)

    @property
    def deadline(self) -> float | None:
        """The time to close the silent connection or to repeat an unanswered command, whichever is earlier."""
        silence = [self._last_received + self._dialect.silence_s] if self._dialect.silence_s else []
        return min([*silence, *self._commands.deadlines], default=None)

    def receive(self, data: bytes, now: float) -> list[Action]:
        """Process received bytes: answer messages without content, deliver the next one with content."""
        self._last_received = now
        self._reader.feed(data)
        return self._proceed()

    def decided(self, outcome: Outcome, now: float) -> list[Action]:
        """Acknowledge the delivered message by its outcome, and continue."""
        self._last_received = now
        header, self._undecided = self._undecided, None
        if header is None:
            raise ValueError("no message is undecided")
        actions: list[Action] = [Count(_REASONS[outcome])] if outcome in _REASONS else []
        if outcome is not Outcome.BUSY or self._dialect.busy == "error":
            actions += self._answer(header, _BY_OUTCOME[outcome])
        return actions + self._proceed()

    def expired(self, now: float) -> list[Action]:
        """Send an unanswered command again or give it up; close the connection after a long silence."""
        actions = self._commands.expired(now)
        silence_s = self._dialect.silence_s
        if silence_s and now >= self._last_received + silence_s:
            actions.append(Close())
        return actions

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - no time matters here
        """Count an unfinished message, and give up unanswered commands."""
        unfinished: list[Action] = [Count(Reason.MESSAGE_UNFINISHED)] if self._reader.inside else []
        return unfinished + self._commands.closed()

    def command(self, number: int, verb: str, now: float) -> list[Action]:
        """Send INR^U06 (send-inventory) or LSR^U13 (data-upload); other verbs are refused."""
        self._last_received = now
        return self._commands.send(number, verb, now)

    def _proceed(self) -> list[Action]:
        actions: list[Action] = []
        while self._undecided is None and (block := self._reader.next()) is not None:
            actions += [Count(block)] if isinstance(block, Reason) else self._read(block)
        return actions

    def _read(self, block: Block) -> list[Action]:
        header = ReplyHeader()
        try:
            message = Er7Message(block.data, block.length, masked=self._site.masked)
            header = ReplyHeader.of(message, self._site.masked)
            return (
                self._refuse(header, Answer.INVALID) if block.oversized else self._dispatch(message, header)
            )
        except Er7Error:
            return self._refuse(header, Answer.INVALID if header.kind else Answer.UNSUPPORTED)

    def _dispatch(self, message: Er7Message, header: ReplyHeader) -> list[Action]:
        kind = kind_of(header.kind)
        if kind is MessageTreatment.RESPONSE:
            return self._commands.answered(message)
        if not header.control_id.strip():
            return self._refuse(header, Answer.NO_CONTROL_ID)
        if kind is not MessageTreatment.CONTENT:
            reason = Reason.QUERY_IGNORED if kind is MessageTreatment.QUERY else Reason.MESSAGE_IGNORED
            answer = Answer.ACCEPT if kind is MessageTreatment.NOTICE else Answer.UNSUPPORTED
            return [Count(reason), *self._answer(header, answer)]
        return self._deliver(READERS[header.kind](message, self._site), header)

    def _deliver(self, extract: Extract, header: ReplyHeader) -> list[Action]:
        self._undecided = header
        return [Deliver(extract)]

    def _refuse(self, header: ReplyHeader, answer: Answer) -> list[Action]:
        return [Count(Reason.MESSAGE_REFUSED), *self._answer(header, answer)]

    def _answer(self, header: ReplyHeader, answer: Answer) -> list[Action]:
        codes = acknowledgement_codes(header, answer, self._dialect.acknowledgement == "original")
        return [Send(frame(write_reply(header, code, answer, self._numbers))) for code in codes]
