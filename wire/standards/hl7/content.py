"""Classifies HL7 messages by MSH-9, and names the reader of each kind that has content for the box."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final

from wire.standards.er7 import Er7Message
from wire.standards.extract import Extract
from wire.standards.hl7.equipment import read_inventory, read_notification, read_status
from wire.standards.hl7.quality import read_quality
from wire.standards.hl7.site import Hl7Site

READERS: Final[dict[bytes, Callable[[Er7Message, Hl7Site], Extract]]] = {
    b"ESU": read_status,
    b"INU": read_inventory,
    b"EAN": read_notification,
    b"ORU": read_quality,
    b"OUL": read_quality,
}


class MessageTreatment(Enum):
    """The treatment of a message."""

    CONTENT = auto()
    """It is read."""
    NOTICE = auto()
    """An update that the box does not use, such as a specimen's status: accepted and not read."""
    QUERY = auto()
    """A query for orders or patients, which only the laboratory's host can answer: rejected."""
    RESPONSE = auto()
    """The answer to a message of the other side: not acknowledged."""
    REQUEST = auto()
    """Any other message, such as an order or a command to the box: rejected."""


_KINDS: Final[Mapping[bytes, MessageTreatment]] = {
    **dict.fromkeys(READERS, MessageTreatment.CONTENT),
    **dict.fromkeys((b"LSU", b"NMD", b"SSU", b"TCU"), MessageTreatment.NOTICE),
    **dict.fromkeys((b"EQQ", b"QBP", b"QRY", b"QSB", b"QVR", b"RQQ", b"SPQ", b"VQQ"), MessageTreatment.QUERY),
    **dict.fromkeys((b"ACK", b"EAR", b"MCF", b"ORL", b"ORR", b"RSP"), MessageTreatment.RESPONSE),
}


def kind_of(code: bytes) -> MessageTreatment:
    """Classify a message by MSH-9.1."""
    return _KINDS.get(code, MessageTreatment.REQUEST)
