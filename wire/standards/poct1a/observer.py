"""Listening to a point-of-care instrument and the laboratory's observation reviewer, without answering.

A message of the instrument is delivered when the reviewer has accepted it: ACK.R01 with type AA and the control id of
the message. Until then only its findings are kept.
"""

from __future__ import annotations

from typing import Final

from settings.adapted import AdaptedPort
from wire.standards.engine import Action, Count
from wire.standards.extract import Extract, Reason
from wire.standards.message_observer import MessageObserver
from wire.standards.poct1a.content import (
    DELIVERED,
    DocumentError,
    Poct1Extractor,
    Poct1Message,
    parse_document,
)
from wire.standards.poct1a.dialect import poct1_dialect
from wire.standards.poct1a.documents import DocumentReader, PoctDocument
from wire.standards.site_codes import SiteCodes

_EXPECTED: Final = (b"HEL.R01", b"EOT.R01", b"END.R01", b"KPA.R01", b"ACK.R01", b"ESC.R01")
"""Messages of the conversation, without findings."""


class Poct1Observer(MessageObserver[PoctDocument]):
    """Engine that observes one connection (`wire.standards.engine.Observer`).

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    def __init__(self, port: AdaptedPort) -> None:
        poct1_dialect(port.dialect)
        self._extractor = Poct1Extractor(SiteCodes(port))
        super().__init__(DocumentReader(), DocumentReader())

    def _read_instrument(self, document: PoctDocument) -> list[Action]:
        message = _parsed(document)
        if message is None or (message.kind in DELIVERED and not message.value(b"HDR.control_id")):
            return [Count(Reason.MESSAGE_REFUSED)]
        if message.kind in DELIVERED:
            return self._unanswered.add(message.value(b"HDR.control_id"), self._extractor.extract(message))
        if message.kind in _EXPECTED:
            return []
        is_query = message.kind == b"REQ.R01"
        return [Count(Reason.QUERY_IGNORED if is_query else Reason.MESSAGE_IGNORED)]

    def _accepted(self, document: PoctDocument) -> Extract | None:
        message = _parsed(document)
        if message is None or message.kind != b"ACK.R01":
            return None
        extract = self._unanswered.take(message.value(b"ACK.ack_control_id"))
        return extract if message.value(b"ACK.type_cd") == b"AA" else None


def _parsed(document: PoctDocument) -> Poct1Message | None:
    """Return a document's message; None if it is not well-formed, too long or has a document type declaration."""
    try:
        return parse_document(document.data)
    except DocumentError:
        return None
