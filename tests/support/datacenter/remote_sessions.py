"""The remote sessions of a data center with a real store and audit file, and the messages of a box.

The data center's end of the tunnel is emulated, and the test chooses the person who requests a session.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from sqlalchemy import insert

from datacenter.access.request import Principal, Resource
from datacenter.config import RemoteSessionsConfig
from datacenter.sessions.desk import WantedSession
from datacenter.sessions.remote import RemoteSessions
from datacenter.sessions.rights import Requester
from datacenter.sessions.session import DeskSession
from datacenter.sessions.surroundings import EndpointError, TunnelCredentials
from datacenter.store.store import Store
from datacenter.store.tables.schema import remote_sessions
from datacenter.store.threads import StoreThreads
from datacenter.tunnel.keys import issue_certificate
from tests.support.datacenter.web.client import POLICIES
from tests.support.eventually import eventually
from tests.support.wire.grants import BOX, DATACENTER, SESSION
from wire.http.connection import Peer, Request
from wire.messages import decode, encode
from wire.pki.hierarchy import Authority
from wire.session.cose import key_set
from wire.session.grant import (
    Offer,
    PresenceEvidence,
    PresenceWay,
    SessionMode,
    SessionService,
    countersign_offer,
    read_offer,
)
from wire.session.messages import (
    PATH,
    CertificateMessage,
    Exchange,
    ExchangeReply,
    FromBox,
    GrantMessage,
    OfferMessage,
    ShownMessage,
    ToBox,
)
from wire.session.table import SessionState

SERIAL = "RAP-0001"
INSTRUMENT = Resource("Instrument", "CHEM-0001", "berlin-1", "DE", "europe", model="chemistry-analyzer")
FAR_MS = 2**42


def engineer(trained_until_ms: int = FAR_MS) -> Principal:
    """Return a service engineer with a training for the instrument."""
    roles, scope = frozenset({"service-engineer"}), frozenset({"everywhere"})
    return Principal("engineer", roles, scope, {"chemistry-analyzer": trained_until_ms})  # type: ignore[arg-type]


def box_certificate() -> bytes:
    """Return a certificate (DER) for the key with which the box countersigns."""
    chain = Authority.make("vendor").certify(SERIAL, BOX.public_key())
    return x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER)


class PlainEndpoint:
    """The data center's end of a tunnel, which the test opens; connections lead to a socket of the test."""

    def __init__(self, offer: Offer, authority: EllipticCurvePrivateKey) -> None:
        self._offer, self._authority = offer, authority
        loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.is_fenced = True
        self.box: asyncio.Future[socket.socket] = loop.create_future()
        """The box's end of the desktop connection, as soon as the data center connects."""

    async def start(self, session_key: bytes, until: datetime) -> TunnelCredentials:
        keys = await asyncio.to_thread(load_der_public_key, session_key)
        assert isinstance(keys, EllipticCurvePublicKey)
        certificate = issue_certificate("session", keys, "authority", self._authority, until, None)
        return TunnelCredentials(certificate, certificate, "")

    def arrived(self) -> None:
        """Record that the box has opened the tunnel."""
        self._up.set_result(None)

    async def opened(self) -> None:
        await self._up

    async def connect(self, protocol: asyncio.Protocol) -> None:
        own, box = socket.socketpair()
        box.setblocking(False)
        self.box.set_result(box)
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=own)

    async def stop(self) -> None:
        if self.box.done():
            with suppress(OSError):
                self.box.result().shutdown(socket.SHUT_RDWR)
        if not self._up.done():
            self._up.set_exception(EndpointError("stopped"))
            self._up.exception()  # marks it as retrieved, if nothing awaits it
        if not self.ended.done():
            self.ended.set_result("stopped")


@dataclass
class Center:
    """A running data center; `staff` returns the person with the current rights."""

    remote: RemoteSessions
    store: Store
    certificate: bytes
    staff: Callable[[], Principal | None] = engineer
    endpoints: list[PlainEndpoint] = field(default_factory=list)
    received: list[ToBox] = field(default_factory=list)

    async def exchange(self, *messages: FromBox, certificate: bytes | None = None) -> list[ToBox]:
        """Send messages of the box; return the messages for the box."""
        peer = Peer(SERIAL, "127.0.0.1", lambda: None)
        if not messages:
            messages = (ShownMessage(bytes(16)),)  # an exchange without messages would be a long poll
        request = Request("POST", PATH, {}, encode(Exchange(list(messages))), peer)
        response = await self.remote.answer(SERIAL, certificate or self.certificate, request)
        assert response.status == 200, response.body
        replies = decode(ExchangeReply, response.body).messages
        self.received += replies
        return replies

    def request(
        self, mode: SessionMode = SessionMode.CONTROL, service: SessionService = SessionService.RFB
    ) -> bytes:
        """Request a session and store its row, as a page does. Returns the session's identifier."""
        session, now_ms = os.urandom(16), time.time_ns() // 1_000_000
        wanted = WantedSession(
            "engineer",
            "service-engineer",
            SERIAL,
            INSTRUMENT.id,
            1,
            service,
            5900,
            mode,
            600,
            session,
        )
        values = wanted._asdict() | {
            "id": session.hex(),
            "purpose": "service",
            "reason": "a test",
            "ticket": "T-1",
            "requested_at_ms": now_ms,
            "expires_at_ms": now_ms + 600_000,
            "state": "new",
        }
        del values["seconds"]
        with self.store.transaction() as connection:
            connection.execute(insert(remote_sessions).values(values))
        self.remote.start(wanted, Requester(self.present_staff, INSTRUMENT, "service"))
        return session

    def present_staff(self) -> Principal | None:
        """Return the person with the current rights."""
        return self.staff()

    async def offered(self, session: bytes) -> DeskSession:
        """Wait until a session is requested, and confirm as the box that its offer is shown."""
        current: DeskSession | None = None

        def is_requested() -> bool:
            nonlocal current
            current = self.remote.find(session)
            return current is not None and current.state is SessionState.REQUESTED

        await eventually(is_requested)
        await self.exchange(ShownMessage(session))
        assert current is not None
        return current

    async def open(
        self, mode: SessionMode = SessionMode.CONTROL, service: SessionService = SessionService.RFB
    ) -> DeskSession:
        """Request a session, grant it as the person at the instrument, and open its tunnel."""
        return await self.grant(await self.offered(self.request(mode, service)))

    async def grant(self, session: DeskSession) -> DeskSession:
        """Grant an offered session as the person at the instrument, and open its tunnel."""
        keys = key_set(DATACENTER.public_key())
        offers = [
            read_offer(one.offer, keys, SERIAL) for one in self.received if isinstance(one, OfferMessage)
        ]
        signed = [one for one in offers if one.offer.id == session.id][
            -1
        ]  # other sessions may be offered, too
        evidence = PresenceEvidence(PresenceWay.CODE, "port 1", time.time_ns() // 1_000_000_000)
        grant = countersign_offer(signed, (evidence,), SESSION.public_key(), BOX)
        first = await self.exchange(GrantMessage(session.id, grant))

        async def has_certificate() -> bool:
            assert not session.is_over, f"the session ended before its tunnel opened: {session.cause}"
            return any(isinstance(one, CertificateMessage) for one in await self.exchange())

        # a reply contains only the messages that wait at that time, such as the end of another session
        if not any(isinstance(one, CertificateMessage) for one in first):
            await eventually(has_certificate)
        self.endpoints[-1].arrived()
        await eventually(lambda: session.state is SessionState.OPEN)
        return session


def make_settings(folder: Path) -> RemoteSessionsConfig:
    """Return settings with an offer key in `folder`, which is created if it does not exist."""
    folder.mkdir(exist_ok=True)
    key = folder / "offer-key.pem"
    key.write_bytes(DATACENTER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return RemoteSessionsConfig(key, folder, "127.0.0.1", 0)


@asynccontextmanager
async def center(folder: Path, store: Store, four_eyes: Collection[str] = ()) -> AsyncIterator[Center]:
    """Run the remote sessions of a data center; at the sites `four_eyes`, a second person must watch."""
    settings = make_settings(folder)
    threads = StoreThreads(store)
    endpoints: list[PlainEndpoint] = []

    def make(offer: Offer, authority: EllipticCurvePrivateKey) -> PlainEndpoint:
        endpoints.append(PlainEndpoint(offer, authority))
        return endpoints[-1]

    remote = RemoteSessions(
        settings,
        store,
        threads.main,
        lambda: POLICIES,
        lambda: time.time_ns() // 1_000_000,
        [SERIAL],
        make,
        four_eyes,
    )
    try:
        async with remote.running():
            yield Center(remote, store, box_certificate(), endpoints=endpoints)
    finally:
        await threads.close()
