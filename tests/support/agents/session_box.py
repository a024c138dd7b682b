"""A box whose sessions act on emulated surroundings, in virtual time, and a data center that answers them.

The emulated tunnel opens under the same conditions as the real one: the certificate is by the authority of the offer,
for the key that the box has made, and not expired; and the key signs once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.sessions.session import BoxSession
from agents.box.sessions.sessions import BoxSessions
from agents.box.sessions.surroundings import Surroundings
from agents.box.tunnel.tunnel import Credentials, SessionKey, TunnelError
from datacenter.tunnel.keys import issue_certificate
from settings.types import Endpoint
from sim.net.loop import SimLoop
from tests.support.wire.grants import BOX, BOX_KEYS, DATACENTER, DATACENTER_KEYS, ENDPOINT, ISSUED, OFFER
from wire.session.executor import Transition
from wire.session.grant import Grant, Offer, PresenceWay, read_grant, read_offer, sign_offer
from wire.session.messages import CertificateMessage, FromBox, GrantMessage, OfferMessage
from wire.session.presence import code_of
from wire.session.table import SessionState

PORT = OFFER.port
DIGEST = hashes.Hash(hashes.SHA256()).finalize()


@dataclass
class EmulatedAudit:
    """Records in memory; `fails_at` is the number of the record, from 0, from which on nothing can be written."""

    records: list[Transition] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    fails_at: int | None = None
    before: set[bytes] = field(default_factory=set)
    """Sessions before the program started."""

    def knows(self, session: bytes) -> bool:
        return session in self.before or any(record.session == session for record in self.records)

    async def record(self, transition: Transition) -> bool:
        await asyncio.sleep(0.001)
        if self.fails_at is not None and len(self.records) >= self.fails_at:
            return False
        self.records.append(transition)
        return True

    def refused(self, session: bytes, reason: str) -> None:
        self.refusals.append(reason)

    def peer_head(self, head: bytes) -> None:
        pass


@dataclass
class EmulatedPath:
    """The firewall: which sessions may pass packets."""

    is_fenced: bool = True
    opens: bool = True
    open_for: dict[bytes, int] = field(default_factory=dict)

    async def open(self, offer: Offer, seconds: int) -> bool:
        if self.opens:
            self.open_for[offer.id] = seconds
        return self.opens

    async def close(self, offer: Offer) -> None:
        self.open_for.pop(offer.id, None)


class EmulatedTunnel:
    """A tunnel that opens after a second."""

    def __init__(self, box: SessionBox) -> None:
        self._box = box
        self.is_up = False
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def open(self, endpoint: Endpoint, credentials: Credentials, key: SessionKey) -> None:
        await asyncio.sleep(1)
        authority = x509.load_pem_x509_certificate(credentials.authority.encode())
        certificate = x509.load_pem_x509_certificate(credentials.certificate.encode())
        certificate.verify_directly_issued_by(authority)
        if authority.public_key() != ENDPOINT.public_key():
            raise TunnelError("another authority")
        if certificate.not_valid_after_utc.timestamp() < self._box.wall_s():
            raise TunnelError("the certificate has expired")
        public = certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        try:
            public.verify(key.sign(DIGEST), DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))
        except InvalidSignature:
            raise TunnelError("another key") from None
        self.is_up = True

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        self.lose("closed")

    def lose(self, reason: str = "lost") -> None:
        """Let the tunnel end."""
        self.is_up = False
        if not self.ended.done():
            self.ended.set_result(reason)


class SessionBox:
    """The box, what it has sent, and the tunnels that it has made."""

    def __init__(self, ways: tuple[PresenceWay, ...] = (PresenceWay.CODE,)) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock_error_s = 0.0
        self.audit, self.path = EmulatedAudit(), EmulatedPath()
        self.sent: list[FromBox] = []
        self.tunnels: list[EmulatedTunnel] = []
        self.sessions = BoxSessions(
            Surroundings(
                serial=OFFER.box,
                key=BOX,
                datacenter=DATACENTER_KEYS,
                endpoint=Endpoint("dc.example", 443),
                ways=ways,
                wall_ns=lambda: int(self.wall_s() * 1e9),
                monotonic_ns=lambda: int(self.loop.time() * 1e9),
                audit=self.audit,
                path=self.path,
                make_tunnel=self._make_tunnel,
                send=self.sent.append,
                permits=lambda offer: offer.instrument.startswith("CH-"),
                changed=lambda: None,
            )
        )

    def wall_s(self) -> float:
        """The wall clock, in seconds since 1970."""
        return ISSUED + self.loop.time() + self.clock_error_s

    def _make_tunnel(self) -> EmulatedTunnel:
        self.tunnels.append(EmulatedTunnel(self))
        return self.tunnels[-1]

    @property
    def session(self) -> BoxSession:
        """The last session at the port."""
        return self.sessions.at_port(PORT)[-1]

    @property
    def has_passage(self) -> bool:
        """Whether packets can pass: a tunnel is up, and a path is open."""
        return any(tunnel.is_up for tunnel in self.tunnels) and bool(self.path.open_for)

    def next_offer(self, offer: Offer = OFFER, **changes: object) -> Offer:
        """An offer that is made now."""
        now = int(ISSUED + self.loop.time())
        return replace(offer, **{"issued": now, "expires": now + 1800, **changes})  # type: ignore[arg-type]

    async def offer(self, offer: Offer = OFFER) -> str:
        """Let the data center offer a session; return the code that staff see."""
        message = sign_offer(offer, DATACENTER)
        await self.sessions.receive(OfferMessage(message))
        return code_of(read_offer(message, DATACENTER_KEYS, OFFER.box).hash)

    def grant(self) -> Grant:
        """The last grant that the box has sent."""
        message = next(each for each in reversed(self.sent) if isinstance(each, GrantMessage))
        return read_grant(message.grant, DATACENTER_KEYS, BOX_KEYS)

    def certificate(
        self,
        authority: ec.EllipticCurvePrivateKey = ENDPOINT,
        issuer: ec.EllipticCurvePrivateKey | None = None,
        longer_s: int = 0,
    ) -> CertificateMessage:
        """The data center's answer to the last grant; `longer_s` is how much longer it is valid."""
        grant = self.grant()
        until = datetime.fromtimestamp(grant.offer.expires + longer_s, UTC)
        own = issue_certificate("authority", authority.public_key(), "authority", authority, until, None)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        name = grant.offer.id.hex()
        certificate = issue_certificate(
            name, grant.consent.session_key, "authority", issuer or authority, until, usage
        )
        return CertificateMessage(grant.offer.id, certificate, own, "tls-crypt")

    async def authorize(self, offer: Offer = OFFER) -> None:
        """Offer a session, and let the person permit it."""
        code = await self.offer(offer)
        assert await self.sessions.enter_code(offer.id, PORT, code)

    async def open(self, offer: Offer = OFFER) -> None:
        """Offer a session, let the person permit it, and open it."""
        await self.authorize(offer)
        await self.sessions.receive(self.certificate())
        await asyncio.sleep(2)
        assert self.session.state is SessionState.OPEN
        assert self.has_passage


def run(act: Callable[[SessionBox], Awaitable[None]], *ways: PresenceWay) -> None:
    """Call `act` with a box, in virtual time."""

    async def inside() -> None:
        box = SessionBox(ways or (PresenceWay.CODE,))
        await act(box)
        await box.sessions.end_all()
        await asyncio.sleep(1)
        assert not box.has_passage

    loop = SimLoop()
    loop.run_until_complete(inside())
    assert not loop.failures
