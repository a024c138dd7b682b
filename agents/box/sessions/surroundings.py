"""The interfaces through which a session at the box acts; each has a real and an emulated implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from agents.box.sessions.desktop import Shared
from agents.box.tunnel.tunnel import SessionKey, Tunnel
from settings.types import Endpoint
from wire.session.cose import Keys
from wire.session.executor import SessionAudit
from wire.session.grant import Offer, PresenceWay
from wire.session.messages import FromBox


class SessionPath(Protocol):
    """The path of a session through the firewall."""

    @property
    def is_fenced(self) -> bool:
        """Whether the firewall is in force."""
        ...

    async def open(self, offer: Offer, seconds: int) -> bool:
        """Let packets pass for `seconds`, which the kernel enforces; return whether they pass."""
        ...

    async def close(self, offer: Offer) -> None:
        """Stop the packets. On return, none pass."""
        ...


@dataclass(frozen=True)
class BoxSurroundings:
    """The environment of a box's sessions."""

    serial: str
    key: Callable[[], EllipticCurvePrivateKey]
    """Returns the box's own key, which countersigns offers; it changes when the certificate is renewed."""
    datacenter: Keys
    endpoint: Endpoint
    """The address at which the data center accepts tunnels."""
    ways: tuple[PresenceWay, ...]
    """The required proofs of a person's presence at the instrument; at least one."""
    wall_ns: Callable[[], int]
    monotonic_ns: Callable[[], int]
    audit: SessionAudit
    path: SessionPath
    make_tunnel: Callable[[], Tunnel]
    send: Callable[[FromBox], object]
    """Queues a message to the data center, without waiting until it is sent."""
    permits: Callable[[Offer], bool]
    """Whether this box has the offered instrument at this port, with this service."""
    changed: Callable[[], object]
    """Called when anything that a page shows has changed."""
    make_key: Callable[[], SessionKey] = SessionKey
    """Generates the key of a session."""
    share: Callable[[Offer, Callable[[str], object]], Shared | None] = lambda _offer, _ended: None
    """Creates the desktop or TCP service of a session, which calls the function with the reason when it ends. None:
    the box does not listen."""
