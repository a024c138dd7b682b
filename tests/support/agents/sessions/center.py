"""A data center on loopback with a desk for remote sessions, and the connections from it to a box's desktop.

Tunnels are emulated, and end at the box's own listener for the desktop, on loopback.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic_ns, time, time_ns
from typing import TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agents.box.configuration.config import BoxConfig, PortInstrument, SessionSettings
from agents.box.sessions.desktop import Accepted, DesktopNetwork
from agents.box.sessions.running import SessionHardware
from datacenter.sessions.desk import Outbox, SessionDesk, WantedSession
from datacenter.sessions.exchange import SessionExchange
from datacenter.sessions.session import DeskSession
from datacenter.sessions.surroundings import Surroundings, TunnelEndpoint
from datacenter.tunnel.listener import TunnelListener
from sim.tunnel.box import EmulTunnel
from sim.tunnel.datacenter import EmulEndpoint
from sim.tunnel.path import EmulPath
from tests.support.agents.stand_in import StandIn
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from tests.support.sessions.ends import EmulatedRecording
from tests.support.wire.grants import BOX, BOX_KEYS, DATACENTER, DATACENTER_KEYS
from wire.http.connection import Request, Response, serve
from wire.messages import BATCH_BODY_BYTES_MAX, BatchReply, decode, encode
from wire.session.audit import AuditOwner, parse_audit
from wire.session.grant import Offer, SessionMode, SessionService
from wire.session.log import SessionLog
from wire.session.messages import PATH, HeadMessage
from wire.session.recorder import SessionRecorder
from wire.session.table import End, SessionState
from wire.session.verify import AuditVerdict, verify_audits
from wire.tls.context import server_context

NAME = "dc.example"
HOST = "127.0.0.1"
BOX_SERIAL = "RAP-1"
WANTED = WantedSession(
    "m.curie", "service", BOX_SERIAL, "CHEM-1", 1, SessionService.RFB, 5900, SessionMode.CONTROL, 1800
)


MakeEndpoint: TypeAlias = Callable[[Offer, ec.EllipticCurvePrivateKey], TunnelEndpoint]


class LoopbackTunnels:
    """Emulated tunnels over loopback, and the connections in them to the box's listener for the desktop."""

    def __init__(self, vnc_port: int) -> None:
        self.path = EmulPath()
        self.listener = TunnelListener()
        self.listener_port = self.desktop_port = 0
        self.log_fails = False
        self._vnc_port = vnc_port

    def make_endpoint(self, offer: Offer, key: ec.EllipticCurvePrivateKey) -> EmulEndpoint:
        """Create the data center's end of a tunnel."""
        return EmulEndpoint(offer.id, key, self.listener, time_ns)

    def hardware(self, folder: Path) -> SessionHardware:
        """Return the hardware of the box; the audit file is in `folder`."""
        return SessionHardware(
            path=self.path,
            make_tunnel=lambda: EmulTunnel(self.path, self._connect_to_box, time_ns),
            open_log=lambda owner: self._open_log(folder, owner),
            desktop=DesktopNetwork(self._listen, self._connect),
        )

    def _open_log(self, folder: Path, owner: AuditOwner) -> SessionLog:
        if self.log_fails:
            raise OSError(28, "No space left on device")
        return SessionLog(folder / "sessions.audit", owner)

    async def _connect_to_box(self, offer: Offer, protocol: asyncio.Protocol) -> None:
        assert offer.tcp_port == WANTED.tcp_port
        await asyncio.get_running_loop().create_connection(lambda: protocol, HOST, self.desktop_port)

    async def _listen(self, accept: Accepted, port: int) -> asyncio.AbstractServer:
        assert port == WANTED.tcp_port
        server = await asyncio.start_server(accept, HOST, 0)
        self.desktop_port = server.sockets[0].getsockname()[1]
        return server

    async def _connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert (address, port) == ("10.77.1.5", WANTED.tcp_port)
        return await asyncio.open_connection(HOST, self._vnc_port)


class SessionCenter(StandIn):
    """A stand-in for a data center that also manages sessions."""

    def __init__(self, folder: Path, make_endpoint: MakeEndpoint, box_audit: Path | None = None) -> None:
        """`box_audit` is the box's audit file, if it is not in `folder`."""
        super().__init__()
        self._box_audit = box_audit or folder / "sessions.audit"
        self._folder = folder
        self.outbox = Outbox()
        self._log = SessionLog(folder / "datacenter.audit", AuditOwner(End.DATA_CENTER, NAME))
        self.desk = SessionDesk(
            Surroundings(
                name=NAME,
                key=DATACENTER,
                datacenter_keys=DATACENTER_KEYS,
                box_keys=lambda box: BOX_KEYS if box == BOX_SERIAL else {},
                wall_ns=time_ns,
                monotonic_ns=monotonic_ns,
                audit=SessionRecorder(
                    self._log,
                    DATACENTER,
                    "1",
                    time_ns,
                    monotonic_ns,
                    lambda session, head: self.outbox.send(BOX_SERIAL, HeadMessage(session, head)),
                ),
                permits=lambda _: True,
                has_training=lambda _: True,
                make_endpoint=make_endpoint,
                record=lambda _: EmulatedRecording(is_writable=True),
                send=self.outbox.send,
                changed=lambda: None,
            )
        )
        self._exchange = SessionExchange(self.desk, self.outbox)

    async def handle(self, request: Request) -> Response:
        if request.target == PATH:
            return await self._exchange.answer(request.peer.name, request)
        response = await super().handle(request)
        if response.status == 200 and self.outbox.has(request.peer.name):
            reply = decode(BatchReply, response.body)
            response.body = encode(msgspec.structs.replace(reply, sessions=True))
        return response

    async def reached(self, session: DeskSession, state: SessionState) -> None:
        """Wait until a session has reached a state."""
        await eventually(lambda: session.state is state)

    def verdict(self) -> AuditVerdict:
        """Return the verdict on the audit files of both ends."""
        datacenter = parse_audit((self._folder / "datacenter.audit").read_bytes())
        return verify_audits(datacenter, parse_audit(self._box_audit.read_bytes()), DATACENTER_KEYS, BOX_KEYS)


@asynccontextmanager
async def session_center(
    folder: Path, pki: Hierarchy, tunnels: LoopbackTunnels
) -> AsyncIterator[SessionCenter]:
    """Run a data center on a loopback port until the end of the context."""
    listener = await asyncio.get_running_loop().create_server(tunnels.listener.accept, HOST, 0)
    tunnels.listener_port = listener.sockets[0].getsockname()[1]
    async with serving(SessionCenter(folder, tunnels.make_endpoint), pki) as center:
        yield center
    listener.close()


@asynccontextmanager
async def serving(
    center: SessionCenter, pki: Hierarchy, host: str = HOST, port: int = 0
) -> AsyncIterator[SessionCenter]:
    """Serve boxes within the context, and end all sessions at its end."""
    center.server = await serve(
        center.handle,
        host,
        port,
        tls=server_context(pki.datacenter),
        body_bytes_max=BATCH_BODY_BYTES_MAX,
        now=time,
    )
    try:
        yield center
    finally:
        for session in center.desk.sessions:
            await center.desk.end(session.id)
        await eventually(lambda: all(session.is_over for session in center.desk.sessions))
        await center.server.close()


def with_sessions(config: BoxConfig, folder: Path, tunnels: LoopbackTunnels) -> BoxConfig:
    """Return a configuration with [sessions], whose keys are in `folder`; CHEM-1 is at port 1 with an address."""
    keys = folder / "offers.pem"
    keys.write_bytes(DATACENTER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    key = folder / "session.key"
    key.write_bytes(BOX.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    sessions = SessionSettings(
        endpoint=f"{HOST}:{tunnels.listener_port}",
        keys=keys,
        ways=["code"],
        key=key,
        page=folder / "page.sock",
    )
    first, *others = config.port
    (instrument,) = first.instrument
    with_address = PortInstrument(instrument.serial, instrument.model, address="10.77.1.5")
    port = msgspec.structs.replace(first, instrument=[with_address])
    return msgspec.structs.replace(config, port=[port, *others], sessions=sessions)
