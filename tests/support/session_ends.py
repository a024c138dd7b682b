"""Both ends of sessions in virtual time, with real audit files, and a line between them that takes a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.sessions.session import BoxSession
from agents.box.sessions.sessions import BoxSessions
from agents.box.sessions.surroundings import Surroundings as BoxSurroundings
from agents.box.tunnel.tunnel import Credentials, SessionKey, TunnelError
from datacenter.sessions.desk import SessionDesk, Wanted
from datacenter.sessions.session import DeskSession
from datacenter.sessions.surroundings import EndpointError, Issued
from datacenter.sessions.surroundings import Surroundings as DeskSurroundings
from datacenter.tunnel.keys import issue_certificate
from settings.types import Endpoint
from sim.net.loop import SimLoop
from tests.support.agents.session_box import DIGEST, EmulatedPath
from tests.support.wire.grants import BOX, BOX_KEYS, DATACENTER, DATACENTER_KEYS, ISSUED, OFFER
from wire.session.audit import AuditOwner, parse_audit
from wire.session.grant import Offer, PresenceWay
from wire.session.log import SessionLog
from wire.session.messages import FromBox, HeadMessage, ToBox
from wire.session.recorder import SessionRecorder
from wire.session.table import End, SessionState
from wire.session.verify import AuditVerdict, verify_audits

DELAY_SECONDS = 0.2
BOX_CLOCK_SECONDS = 77.0
"""How far the monotonic clock of the box is ahead."""
WANTED = Wanted(
    OFFER.staff,
    OFFER.role,
    OFFER.box,
    OFFER.instrument,
    OFFER.port,
    OFFER.service,
    OFFER.tcp_port,
    OFFER.mode,
    OFFER.expires - OFFER.issued,
)


class EmulatedEndpoint:
    """The data center's end of a tunnel, which a box can open with what was issued here."""

    def __init__(self, session: bytes, authority: ec.EllipticCurvePrivateKey) -> None:
        self._session, self._authority = session, authority
        loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.issued: Issued | None = None
        self.fails = False

    async def start(self, session_key: bytes, until: datetime) -> Issued:
        if self.fails:
            raise EndpointError("no more servers")
        key = load_der_public_key(session_key)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        own, authority = self._authority.public_key(), self._authority
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        certificate = issue_certificate(self._session.hex(), key, "authority", authority, until, usage)
        self.issued = Issued(
            certificate, issue_certificate("authority", own, "authority", authority, until, None), "tls-crypt"
        )
        return self.issued

    def arrived(self) -> None:
        """The box has opened the tunnel."""
        if not self._up.done():
            self._up.set_result(None)

    async def opened(self) -> None:
        await self._up

    async def connect(self, protocol: asyncio.Protocol) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        self.lose("stopped")

    def lose(self, reason: str = "lost") -> None:
        """Let the tunnel end."""
        if not self._up.done():
            self._up.set_exception(EndpointError(reason))
            self._up.exception()
        if not self.ended.done():
            self.ended.set_result(reason)


class EmulatedTunnel:
    """The box's end, which opens if the endpoint has issued its credentials."""

    def __init__(self, ends: SessionEnds) -> None:
        self._ends = ends
        self._endpoint: EmulatedEndpoint | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def open(self, endpoint: Endpoint, credentials: Credentials, key: SessionKey) -> None:
        await asyncio.sleep(DELAY_SECONDS)
        key.sign(DIGEST)
        issued = Issued(credentials.certificate, credentials.authority, credentials.tls_crypt)
        found = next((each for each in self._ends.endpoints if each.issued == issued), None)
        if found is None or found.ended.done():
            raise TunnelError("refused at the door")
        self._endpoint = found
        found.ended.add_done_callback(lambda _: self._end("the data center has closed the tunnel"))
        found.arrived()

    async def close(self) -> None:
        self._end("closed")

    def _end(self, reason: str) -> None:
        if self._endpoint is not None:
            self._endpoint.lose("the box has closed the tunnel")
        if not self.ended.done():
            self.ended.set_result(reason)


class EmulatedRecording:
    """A recording that can be written, or not."""

    def __init__(self, *, is_writable: bool) -> None:
        self.is_writable = is_writable

    async def close(self) -> None:
        pass


class SessionEnds:
    """A data center and a box."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self._folder = folder
        self.is_line_up = True
        self.is_permitted = self.has_training = self.can_record = True
        self.endpoints: list[EmulatedEndpoint] = []
        self.path = EmulatedPath()
        self._tasks: set[asyncio.Task[None]] = set()
        self.to_box: list[ToBox] = []
        self.from_box: list[FromBox] = []
        """All messages that were sent."""
        self.logs: dict[End, SessionLog] = {}
        self.audits = self._open_audits()
        self.desk = SessionDesk(
            DeskSurroundings(
                name=OFFER.issuer,
                key=DATACENTER,
                datacenter_keys=DATACENTER_KEYS,
                box_keys=lambda box: BOX_KEYS if box == OFFER.box else {},
                wall_ns=lambda: int((ISSUED + self.loop.time()) * 1e9),
                monotonic_ns=lambda: int(self.loop.time() * 1e9),
                audit=self.audits[End.DATA_CENTER],
                permits=lambda _: self.is_permitted,
                has_training=lambda _: self.has_training,
                make_endpoint=self._make_endpoint,
                record=lambda _: EmulatedRecording(is_writable=self.can_record),
                send=lambda _, message: self._to_box(message),
                changed=lambda: None,
            )
        )
        self.box = BoxSessions(
            BoxSurroundings(
                serial=OFFER.box,
                key=BOX,
                datacenter=DATACENTER_KEYS,
                endpoint=Endpoint("dc.example", 443),
                ways=(PresenceWay.CODE,),
                wall_ns=lambda: int((ISSUED + self.loop.time() + 0.4) * 1e9),
                monotonic_ns=lambda: int((BOX_CLOCK_SECONDS + self.loop.time()) * 1e9),
                audit=self.audits[End.BOX],
                path=self.path,
                make_tunnel=lambda: EmulatedTunnel(self),
                send=self._to_datacenter,
                permits=lambda offer: offer.instrument == OFFER.instrument,
                changed=lambda: None,
            )
        )

    def _open_audits(self) -> dict[End, SessionRecorder]:
        names = {End.DATA_CENTER: (OFFER.issuer, DATACENTER), End.BOX: (OFFER.box, BOX)}
        send = {End.DATA_CENTER: self._to_box, End.BOX: self._to_datacenter}
        ahead = {End.DATA_CENTER: 0.0, End.BOX: BOX_CLOCK_SECONDS}
        audits = {}
        for end, (name, key) in names.items():

            def send_head(session: bytes, head: bytes, end: End = end) -> None:
                send[end](HeadMessage(session, head))

            self.logs[end] = SessionLog(self._folder / end.value, AuditOwner(end, name))
            audits[end] = SessionRecorder(
                self.logs[end],
                key,
                "1",
                lambda: int((ISSUED + self.loop.time()) * 1e9),
                lambda end=end: int((ahead[end] + self.loop.time()) * 1e9),  # type: ignore[misc]
                send_head,
            )
        return audits

    def _make_endpoint(self, offer: Offer, key: ec.EllipticCurvePrivateKey) -> EmulatedEndpoint:
        self.endpoints.append(EmulatedEndpoint(offer.id, key))
        return self.endpoints[-1]

    def _to_box(self, message: ToBox) -> None:
        self.to_box.append(message)
        self._carry(lambda: self.box.receive(message))

    def _to_datacenter(self, message: FromBox) -> None:
        self.from_box.append(message)
        self._carry(lambda: self.desk.receive(OFFER.box, message))

    def _carry(self, deliver: Callable[[], Awaitable[None]]) -> None:
        async def carry() -> None:
            await asyncio.sleep(DELAY_SECONDS)
            if self.is_line_up:
                await deliver()

        task = self.loop.create_task(carry())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def at_box(self) -> BoxSession:
        """The last session at the box."""
        return self.box.at_port(OFFER.port)[-1]

    @property
    def passes(self) -> bool:
        """Whether packets can pass."""
        opened = [session for session in self.desk.sessions if session.state is SessionState.OPEN]
        return bool(opened) and bool(self.path.open_for)

    async def request(self) -> DeskSession:
        """Ask for a session, and wait until it is shown."""
        session = await self.desk.request(WANTED)
        await asyncio.sleep(3 * DELAY_SECONDS)
        return session

    async def open(self) -> DeskSession:
        """Ask for a session, let the person permit it, and wait until it is open."""
        session = await self.request()
        assert await self.box.enter_code(session.id, OFFER.port, session.code)
        await asyncio.sleep(10 * DELAY_SECONDS)
        assert session.state is SessionState.OPEN
        assert self.passes
        return session

    def verdict(self) -> AuditVerdict:
        """What the audit files of both ends prove."""
        files = [parse_audit((self._folder / end.value).read_bytes()) for end in (End.DATA_CENTER, End.BOX)]
        return verify_audits(*files, DATACENTER_KEYS, BOX_KEYS)


def run(folder: Path, act: Callable[[SessionEnds], Awaitable[None]]) -> AuditVerdict:
    """Call `act` with both ends, in virtual time; return what the audit files prove after everything has ended."""

    async def inside() -> AuditVerdict:
        ends = SessionEnds(folder)
        await act(ends)
        await ends.box.end_all()
        for session in ends.desk.sessions:
            await ends.desk.end(session.id)
        await asyncio.sleep(5)
        assert not ends.passes
        return ends.verdict()

    loop = SimLoop()
    verdict = loop.run_until_complete(inside())
    assert not loop.failures
    return verdict
