"""Observes HL7 v2 over MLLP between an instrument and the laboratory's host, without sending anything.

A message of the instrument is delivered when the host has accepted it: AA or CA with the message's MSH-10 in MSA-2.
Until then only its findings are kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from settings.adapted import AdaptedPort
from wire.standards.engine import Action, Count, Deliver, Outcome
from wire.standards.er7 import Er7Error, Er7Message, unmask
from wire.standards.extract import Extract, Reason
from wire.standards.hl7.content import READERS, Kind, kind_of
from wire.standards.hl7.site import Hl7Site
from wire.standards.mllp import Block, BlockReader

UNANSWERED_MAX: Final = 16
"""Maximum messages that wait for the host's acknowledgement; beyond it the oldest is discarded."""
_ACCEPTED: Final = (b"AA", b"CA")
_REJECTED: Final = (b"AE", b"AR", b"CE", b"CR")


@dataclass(frozen=True, slots=True)
class _Unanswered:
    control_id: bytes
    extract: Extract


class Hl7Observer:
    """Engine that observes one connection (`wire.standards.engine.Observer`).

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    deadline: float | None = None

    def __init__(self, port: AdaptedPort) -> None:
        self._site = Hl7Site(port)
        self._instrument, self._host = BlockReader(fs_ends=self._site.fs_ends), BlockReader()
        self._unanswered: deque[_Unanswered] = deque()
        self._undecided = False

    def from_instrument(self, data: bytes, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Process bytes of the instrument."""
        self._instrument.feed(data)
        return self._proceed()

    def from_host(self, data: bytes, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Process bytes of the host."""
        self._host.feed(data)
        return self._proceed()

    def decided(self, outcome: Outcome, now: float) -> list[Action]:  # noqa: ARG002 - no time matters here
        """Continue; findings that could not be stored are counted and lost, since the host has acknowledged them."""
        self._undecided = False
        lost: list[Action] = [] if outcome is Outcome.STORED else [Count(Reason.NOT_STORED)]
        return lost + self._proceed()

    def expired(self, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Nothing is waited for."""
        return []

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - no time matters here
        """Count an unfinished message, and those that the host has not acknowledged."""
        actions: list[Action] = [Count(Reason.MESSAGE_UNFINISHED)] if self._instrument.inside else []
        if self._unanswered:
            actions.append(Count(Reason.NOT_STORED, len(self._unanswered)))
            self._unanswered.clear()
        return actions

    def _proceed(self) -> list[Action]:
        actions: list[Action] = []
        while (found := self._instrument.next()) is not None:
            actions += [Count(found)] if isinstance(found, Reason) else self._read_instrument(found)
        while not self._undecided and (found := self._host.next()) is not None:
            if isinstance(found, Block):
                actions += self._read_host(found)
        return actions

    def _read_instrument(self, block: Block) -> list[Action]:
        try:
            message = Er7Message(block.data, block.length, masked=self._site.masked)
            kind = kind_of(message.header.component(9, 1))
            if block.oversized:
                return [Count(Reason.MESSAGE_REFUSED)]
            if kind is Kind.CONTENT:
                extract = READERS[message.header.component(9, 1)](message, self._site)
                return self._remember(_Unanswered(self._raw(message.header.raw(10)), extract))
        except Er7Error:
            return [Count(Reason.MESSAGE_REFUSED)]
        ignored = Reason.QUERY_IGNORED if kind is Kind.QUERY else Reason.MESSAGE_IGNORED
        return [] if kind is Kind.RESPONSE else [Count(ignored)]

    def _remember(self, new: _Unanswered) -> list[Action]:
        """Keep the findings of a message until the host answers it; ignore a repetition of a kept message."""
        if new in self._unanswered:
            return []
        self._unanswered.append(new)
        if len(self._unanswered) <= UNANSWERED_MAX:
            return []
        self._unanswered.popleft()
        return [Count(Reason.NOT_STORED)]

    def _read_host(self, block: Block) -> list[Action]:
        try:
            message = Er7Message(block.data, block.length, masked=self._site.masked)
            msa = next((segment for segment in message.segments() if segment.name == b"MSA"), None)
        except Er7Error:
            return []
        if msa is None:
            return []
        code, control_id = msa.first(1), self._raw(msa.raw(2))
        found = next((kept for kept in self._unanswered if kept.control_id == control_id), None)
        if found is None or code not in (*_ACCEPTED, *_REJECTED):
            return []
        self._unanswered.remove(found)
        if code in _REJECTED:
            return []
        self._undecided = True
        return [Deliver(found.extract)]

    def _raw(self, field: bytes) -> bytes:
        return unmask(field) if self._site.masked else field
