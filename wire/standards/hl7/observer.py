"""Observes HL7 v2 over MLLP between an instrument and the laboratory's host, without sending anything.

A message of the instrument is delivered when the host has accepted it: AA or CA with the message's MSH-10 in MSA-2.
Until then only its findings are kept.
"""

from __future__ import annotations

from typing import Final

from settings.adapted import AdaptedPort
from wire.standards.engine import Action, Count
from wire.standards.er7 import Er7Error, Er7Message, unmask
from wire.standards.extract import Extract, Reason
from wire.standards.hl7.content import READERS, MessageTreatment, kind_of
from wire.standards.hl7.site import Hl7Site
from wire.standards.message_observer import MessageObserver
from wire.standards.mllp import Block, BlockReader

_ACCEPTED: Final = (b"AA", b"CA")
_REJECTED: Final = (b"AE", b"AR", b"CE", b"CR")


class Hl7Observer(MessageObserver[Block]):
    """Engine that observes one connection (`wire.standards.engine.Observer`).

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    def __init__(self, port: AdaptedPort) -> None:
        self._site = Hl7Site(port)
        super().__init__(BlockReader(fs_ends=self._site.fs_ends), BlockReader())

    def _read_instrument(self, block: Block) -> list[Action]:
        try:
            message = Er7Message(block.data, block.length, masked=self._site.masked)
            kind = kind_of(message.header.component(9, 1))
            if block.oversized:
                return [Count(Reason.MESSAGE_REFUSED)]
            if kind is MessageTreatment.CONTENT:
                extract = READERS[message.header.component(9, 1)](message, self._site)
                return self._unanswered.add(self._raw(message.header.raw(10)), extract)
        except Er7Error:
            return [Count(Reason.MESSAGE_REFUSED)]
        ignored = Reason.QUERY_IGNORED if kind is MessageTreatment.QUERY else Reason.MESSAGE_IGNORED
        return [] if kind is MessageTreatment.RESPONSE else [Count(ignored)]

    def _accepted(self, block: Block) -> Extract | None:
        try:
            message = Er7Message(block.data, block.length, masked=self._site.masked)
            msa = next((segment for segment in message.segments() if segment.name == b"MSA"), None)
        except Er7Error:
            return None
        if msa is None:
            return None
        code = msa.first(1)
        if code not in (*_ACCEPTED, *_REJECTED):
            return None
        extract = self._unanswered.take(self._raw(msa.raw(2)))
        return None if code in _REJECTED else extract

    def _raw(self, field: bytes) -> bytes:
        return unmask(field) if self._site.masked else field
