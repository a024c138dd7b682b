"""The interfaces through which a session at the data center acts; each has a real and an emulated implementation."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from wire.session.cose import Keys, new_key
from wire.session.executor import SessionAudit
from wire.session.grant import Offer
from wire.session.messages import CertificateMessage, ToBox


class TunnelCredentials(NamedTuple):
    """The credentials with which a box opens the tunnel of one session, in PEM."""

    certificate: str
    authority: str
    """Not sent: the box itself makes a CA certificate for the key in the offer."""
    tls_crypt: str

    def message(self, session: bytes) -> CertificateMessage:
        """Return the message for the box."""
        return CertificateMessage(session, _body(self.certificate), _body(self.tls_crypt))


def _body(pem: str) -> bytes:
    return base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-----")))


class EndpointError(Exception):
    """The data center's end of a tunnel cannot be started, or the tunnel does not open; the text says why."""


class TunnelEndpoint(Protocol):
    """The data center's end of one session's tunnel, which reaches one TCP port of one instrument."""

    ended: asyncio.Future[str]
    """Set with the reason when the tunnel has ended."""

    @property
    def is_fenced(self) -> bool:
        """Whether a firewall in force permits only this port; before `start`, whether such a firewall is possible."""
        ...

    async def start(self, session_key: bytes, until: datetime) -> TunnelCredentials:
        """Issue a certificate for `session_key` (SubjectPublicKeyInfo, DER), and wait for the box in the background.

        The connection waits until the firewall is in force. Raises: EndpointError.
        """
        ...

    async def opened(self) -> None:
        """Wait until the tunnel passes packets. Raises: EndpointError if it cannot."""
        ...

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """Connect `protocol` to the instrument. Raises: OSError."""
        ...

    async def stop(self) -> None:
        """End the tunnel. On return, no packets pass."""
        ...


class SessionRecording(Protocol):
    """The recording of one session."""

    @property
    def is_writable(self) -> bool:
        """Whether its beginning is durable."""
        ...

    async def close(self) -> bytes:
        """End the recording; return the value of its hash chain, or b"" if it is not complete."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """The environment of the sessions of a data center."""

    name: str
    """The issuer of offers."""
    key: EllipticCurvePrivateKey
    """The key that signs offers."""
    datacenter_keys: Keys
    """The public keys with which grants are verified: the key of `key`, and earlier keys."""
    box_keys: Callable[[str], Keys]
    """The keys of a box, by its serial number; none if they are not known."""
    wall_ns: Callable[[], int]
    monotonic_ns: Callable[[], int]
    audit: SessionAudit
    permits: Callable[[Offer], bool]
    """Whether the access policies permit the session now, and the approval is not withdrawn."""
    has_training: Callable[[Offer], bool]
    """Whether the staff member's training for the instrument is valid now."""
    make_endpoint: Callable[[Offer, EllipticCurvePrivateKey], TunnelEndpoint]
    """Makes the end of a session's tunnel, with the key that the offer names."""
    record: Callable[[Offer], SessionRecording]
    """Begins the recording of a session."""
    send: Callable[[str, ToBox], object]
    """Sends a message to a box at the box's next request."""
    changed: Callable[[], object]
    """Called when data that a page shows have changed."""
    make_key: Callable[[], EllipticCurvePrivateKey] = new_key
    """Makes the key of a session's tunnel, on P-256."""
