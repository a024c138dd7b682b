"""Messages between the two ends of a session, on the box's connection to the data center."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from wire.messages import Message
from wire.session.cose import BYTES_MAX
from wire.session.grant import ID_BYTES

PATH: Final = "/v1/sessions"
HOLD_SECONDS: Final = 25.0
"""Time for which the data center delays the response while it has no message for the box."""
MESSAGES_MAX: Final = 64
EXCHANGE_BYTES_MAX: Final = 256 * 1024

SessionId: TypeAlias = Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
Cose: TypeAlias = Annotated[bytes, Meta(max_length=BYTES_MAX)]
Der: TypeAlias = Annotated[bytes, Meta(max_length=2048)]


class OfferMessage(Message, frozen=True, tag="offer"):
    """Box ← data center: a signed offer. Repeated until it is shown."""

    offer: Cose


class CertificateMessage(Message, frozen=True, tag="certificate"):
    """Box ← data center: the credentials issued for the session's key, with which the box opens the tunnel.

    They are as short as possible, because the person waits for them. The authority's key is in the offer.
    """

    session: SessionId
    certificate: Der
    tls_crypt: Der
    """The tls-crypt-v2 key, without the lines and the base64 of its file."""


class ShownMessage(Message, frozen=True, tag="shown"):
    """Data center ← box: the offer is shown to the person at the instrument."""

    session: SessionId


class GrantMessage(Message, frozen=True, tag="grant"):
    """Data center ← box: the countersigned offer."""

    session: SessionId
    grant: Cose


class EndMessage(Message, frozen=True, tag="end"):
    """In both directions: this end has ended the session, for this reason."""

    session: SessionId
    cause: Annotated[str, Meta(max_length=32)]


class HeadMessage(Message, frozen=True, tag="head"):
    """In both directions: the signed head of this end's audit file, which the other end records."""

    session: SessionId
    head: Cose


ToBox: TypeAlias = OfferMessage | CertificateMessage | EndMessage | HeadMessage
FromBox: TypeAlias = ShownMessage | GrantMessage | EndMessage | HeadMessage


class Exchange(Message, frozen=True):
    """Data center ← box: the messages of the box, often none. Repeated until it is answered."""

    messages: Annotated[list[FromBox], Meta(max_length=MESSAGES_MAX)]


class ExchangeReply(Message, frozen=True):
    """Box ← data center: the messages of the data center."""

    messages: Annotated[list[ToBox], Meta(max_length=MESSAGES_MAX)]
