"""Listening to a point-of-care instrument and the laboratory's observation reviewer, without answering.

What the instrument sends is delivered when the reviewer has accepted it: ACK.R01 with type AA and the control id of
the message. Until then only its findings are kept.
"""

from __future__ import annotations

from typing import Final

from settings.adapted import AdaptedPort
from wire.standards.engine import Action, Count, Deliver, Outcome
from wire.standards.extract import Reason
from wire.standards.poct1a.content import (
    DELIVERED,
    DocumentError,
    Poct1Extractor,
    Poct1Message,
    parse_document,
)
from wire.standards.poct1a.dialect import poct1_dialect
from wire.standards.poct1a.documents import Document, DocumentReader
from wire.standards.site_codes import SiteCodes
from wire.standards.unanswered import Unanswered

_EXPECTED: Final = (b"HEL.R01", b"EOT.R01", b"END.R01", b"KPA.R01", b"ACK.R01", b"ESC.R01")
"""Messages of the conversation, without findings."""


class Poct1Observer:
    """Engine that observes one connection (`wire.standards.engine.Observer`).

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    def __init__(self, port: AdaptedPort) -> None:
        poct1_dialect(port.dialect)
        self._extractor = Poct1Extractor(SiteCodes(port))
        self._instrument, self._host = DocumentReader(), DocumentReader()
        self._unanswered = Unanswered()
        self._undecided = False

    def from_instrument(self, data: bytes, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Process bytes of the instrument."""
        self._instrument.feed(data)
        return self._proceed()

    def from_host(self, data: bytes, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Process bytes of the observation reviewer."""
        self._host.feed(data)
        return self._proceed()

    def decided(self, outcome: Outcome, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Count what could not be stored, because the reviewer has acknowledged it already, and continue."""
        self._undecided = False
        lost: list[Action] = [] if outcome is Outcome.STORED else [Count(Reason.NOT_STORED)]
        return lost + self._proceed()

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - no time limit
        """Count an unfinished message, and those that the reviewer has not acknowledged."""
        actions: list[Action] = [Count(Reason.MESSAGE_UNFINISHED)] if self._instrument.inside else []
        return actions + self._unanswered.clear()

    def _proceed(self) -> list[Action]:
        actions: list[Action] = []
        while (found := self._instrument.next()) is not None:
            actions += [Count(found)] if isinstance(found, Reason) else self._read_instrument(found)
        while not self._undecided and (found := self._host.next()) is not None:
            if isinstance(found, Document):
                actions += self._read_host(found)
        return actions

    def _read_instrument(self, document: Document) -> list[Action]:
        message = _parsed(document)
        if message is None or (message.kind in DELIVERED and not message.value(b"HDR.control_id")):
            return [Count(Reason.MESSAGE_REFUSED)]
        if message.kind in DELIVERED:
            return self._unanswered.add(message.value(b"HDR.control_id"), self._extractor.extract(message))
        if message.kind in _EXPECTED:
            return []
        is_query = message.kind == b"REQ.R01"
        return [Count(Reason.QUERY_IGNORED if is_query else Reason.MESSAGE_IGNORED)]

    def _read_host(self, document: Document) -> list[Action]:
        message = _parsed(document)
        if message is None or message.kind != b"ACK.R01":
            return []
        extract = self._unanswered.take(message.value(b"ACK.ack_control_id"))
        if extract is None or message.value(b"ACK.type_cd") != b"AA":
            return []
        self._undecided = True
        return [Deliver(extract)]


def _parsed(document: Document) -> Poct1Message | None:
    """The message of a document; None if it is not well-formed, too long or has a document type declaration."""
    try:
        return parse_document(document.data)
    except DocumentError:
        return None
