"""A box with sessions on emulated surroundings in simulated time, and the messages of its data center."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.sessions.session import BoxSession
from agents.box.sessions.sessions import BoxSessions
from agents.box.sessions.surroundings import BoxSurroundings
from datacenter.tunnel.keys import issue_certificate
from sim.net.loop import SimLoop
from sim.tunnel.box import EmulTunnel
from tests.support.sessions.network import TUNNEL_ADDRESS, SessionNetwork, run_at_box
from tests.support.wire.grants import BOX, BOX_KEYS, DATACENTER, DATACENTER_KEYS, ENDPOINT, ISSUED, OFFER
from wire.session.executor import Transition
from wire.session.grant import Grant, Offer, PresenceWay, read_grant, read_offer, sign_offer
from wire.session.messages import CertificateMessage, FromBox, GrantMessage, OfferMessage
from wire.session.presence import code_of
from wire.session.table import SessionState

PORT = OFFER.port


@dataclass
class EmulatedAudit:
    """An audit log in memory. From record number `fails_at` on, counted from 0, no record can be written."""

    records: list[Transition] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    fails_at: int | None = None
    before: set[bytes] = field(default_factory=set)
    """Identifiers of sessions that were recorded before the program started."""

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


class SessionBox:
    """A box, the messages it has sent, and its tunnels."""

    def __init__(self, network: SessionNetwork, ways: tuple[PresenceWay, ...] = (PresenceWay.CODE,)) -> None:
        self.loop = asyncio.get_running_loop()
        self.network, self.path, self.tunnels = network, network.path, network.tunnels
        self.audit = EmulatedAudit()
        self.sent: list[FromBox] = []
        self.on_change: Callable[[], object] = lambda: None
        self.sessions = BoxSessions(
            BoxSurroundings(
                serial=OFFER.box,
                key=lambda: BOX,
                datacenter=DATACENTER_KEYS,
                endpoint=TUNNEL_ADDRESS,
                ways=ways,
                wall_ns=network.box_wall_ns,
                monotonic_ns=lambda: int(self.loop.time() * 1e9),
                audit=self.audit,
                path=self.path,
                make_tunnel=network.make_tunnel,
                send=self.sent.append,
                permits=lambda offer: offer.instrument.startswith("CH-"),
                changed=self._changed,
            )
        )

    def _changed(self) -> None:
        self.on_change()

    @property
    def session(self) -> BoxSession:
        """The last session at the port."""
        return self.sessions.at_port(PORT)[-1]

    @property
    def opened(self) -> list[EmulTunnel]:
        """The tunnels that were opened, without those that were only prepared by a grant."""
        return [tunnel for tunnel in self.tunnels if tunnel.was_opened]

    @property
    def has_passage(self) -> bool:
        """Whether packets can pass: a tunnel is up, and a path is open."""
        return any(not tunnel.ended.done() for tunnel in self.tunnels) and bool(self.path.elements())

    def next_offer(self, offer: Offer = OFFER, **changes: object) -> Offer:
        """Return an offer that was issued now and expires in half an hour."""
        now = int(ISSUED + self.loop.time())
        return replace(offer, **{"issued": now, "expires": now + 1800, **changes})  # type: ignore[arg-type]

    async def offer(self, offer: Offer = OFFER) -> str:
        """Let the data center offer a session; return the code that staff see."""
        message = sign_offer(offer, DATACENTER)
        await self.sessions.receive(OfferMessage(message))
        return code_of(read_offer(message, DATACENTER_KEYS, OFFER.box).hash)

    def grant(self) -> Grant:
        """Return the last grant that the box has sent."""
        last = next(message for message in reversed(self.sent) if isinstance(message, GrantMessage))
        return read_grant(last.grant, DATACENTER_KEYS, BOX_KEYS)

    async def certificate(
        self,
        authority: ec.EllipticCurvePrivateKey = ENDPOINT,
        issuer: ec.EllipticCurvePrivateKey | None = None,
        longer_s: int = 0,
    ) -> CertificateMessage:
        """Return the data center's answer to the last grant, valid `longer_s` seconds longer than its offer."""
        grant = self.grant()
        until = datetime.fromtimestamp(grant.offer.expires + longer_s, UTC)
        key = grant.consent.session_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        issued = await self.network.make_endpoint(grant.offer, authority).start(key, until)
        if issuer is not None:
            usage = ExtendedKeyUsageOID.CLIENT_AUTH
            foreign = issue_certificate(
                grant.offer.id.hex(), grant.consent.session_key, "authority", issuer, until, usage
            )
            issued = issued._replace(certificate=foreign)
        return issued.message(grant.offer.id)

    async def authorize(self, offer: Offer = OFFER) -> None:
        """Offer a session, and let the person permit it."""
        code = await self.offer(offer)
        assert await self.sessions.enter_code(offer.id, PORT, code)

    async def open(self, offer: Offer = OFFER) -> None:
        """Offer a session, let the person permit it, and open it."""
        await self.authorize(offer)
        await self.sessions.receive(await self.certificate())
        await asyncio.sleep(2)
        assert self.session.state is SessionState.OPEN
        assert self.has_passage


def run(act: Callable[[SessionBox], Awaitable[None]], *ways: PresenceWay) -> None:
    """Call `act` with a box, in simulated time."""

    loop = SimLoop()
    network = SessionNetwork(loop)

    async def inside() -> None:
        await network.start()
        box = SessionBox(network, ways or (PresenceWay.CODE,))
        await act(box)
        await box.sessions.end_all()
        await asyncio.sleep(1)
        assert not box.has_passage

    run_at_box(loop, inside, network.box)
