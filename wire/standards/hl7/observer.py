"""Observes HL7 v2 over MLLP between an instrument and the laboratory's host, without sending anything.

A message of the instrument is delivered when the host has accepted it: AA or CA with the message's MSH-10 in MSA-2.
Until then only its findings are kept.
"""

from __future__ import annotations

from typing import Final

from settings.adapted import AdaptedPort
from wire.standards.engine import Action, Count, Deliver, Outcome
from wire.standards.er7 import Er7Error, Er7Message, unmask
from wire.standards.extract import Reason
from wire.standards.hl7.content import READERS, Kind, kind_of
from wire.standards.hl7.site import Hl7Site
from wire.standards.mllp import Block, BlockReader
from wire.standards.unanswered import Unanswered

_ACCEPTED: Final = (b"AA", b"CA")
_REJECTED: Final = (b"AE", b"AR", b"CE", b"CR")


class Hl7Observer:
    """Engine that observes one connection (`wire.standards.engine.Observer`).

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    def __init__(self, port: AdaptedPort) -> None:
        self._site = Hl7Site(port)
        self._instrument, self._host = BlockReader(fs_ends=self._site.fs_ends), BlockReader()
        self._unanswered = Unanswered()
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

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - no time matters here
        """Count an unfinished message, and those that the host has not acknowledged."""
        actions: list[Action] = [Count(Reason.MESSAGE_UNFINISHED)] if self._instrument.inside else []
        return actions + self._unanswered.clear()

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
                return self._unanswered.add(self._raw(message.header.raw(10)), extract)
        except Er7Error:
            return [Count(Reason.MESSAGE_REFUSED)]
        ignored = Reason.QUERY_IGNORED if kind is Kind.QUERY else Reason.MESSAGE_IGNORED
        return [] if kind is Kind.RESPONSE else [Count(ignored)]

    def _read_host(self, block: Block) -> list[Action]:
        try:
            message = Er7Message(block.data, block.length, masked=self._site.masked)
            msa = next((segment for segment in message.segments() if segment.name == b"MSA"), None)
        except Er7Error:
            return []
        if msa is None:
            return []
        code = msa.first(1)
        if code not in (*_ACCEPTED, *_REJECTED):
            return []
        extract = self._unanswered.take(self._raw(msa.raw(2)))
        if extract is None or code in _REJECTED:
            return []
        self._undecided = True
        return [Deliver(extract)]

    def _raw(self, field: bytes) -> bytes:
        return unmask(field) if self._site.masked else field
