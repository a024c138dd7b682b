"""Remote sessions in the virtual world: the data center's sessions with its staff, and the box's tunnel.

The session code of both ends and the firewall's ruleset are the real ones. The tunnel, the TUN device and the disk of
the audit files are emulated.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
)

from agents.box.sessions.session import BoxSession
from agents.box.sessions.sessions import BoxSessions
from datacenter.desktop.receiver import DesktopReceiver
from datacenter.sessions.desk import Outbox, SessionDesk, WantedSession
from datacenter.sessions.exchange import SessionExchange
from datacenter.sessions.restart import end_interrupted, read_interrupted
from datacenter.sessions.session import DeskSession, SessionClosed
from datacenter.sessions.surroundings import Surroundings
from datacenter.tunnel.listener import TunnelListener
from netfw.policy.policy import Service
from netfw.ruleset.sessions import THE_BOX, Session
from netfw.service.supervisor import NotEnforced
from sim.engine.layers import Layers
from sim.instruments.desktop import InstrumentDesktop
from sim.lab.sessions import LabSession
from sim.net.host import Incarnation, SimHost
from sim.net.loop import SimLoop
from sim.sessions.keys import RepeatableKey, drawn_keys
from sim.tunnel.datacenter import EmulEndpoint
from sim.tunnel.path import EmulPath
from sim.worlds.shared.site.addresses import (
    BOX_SERIAL,
    DATACENTER_NAME,
    DATACENTER_PORT,
    DATACENTER_TUNNEL,
    TUNNEL_BOX,
    TUNNEL_STAFF,
    box_address,
    instrument_address,
)
from sim.worlds.shared.site.session_keys import SessionKeys
from sim.worlds.virtual.firewall import VirtualFirewall
from wire.desktop.connection import TcpChannel
from wire.desktop.rfb import KeyEvent, PointerEvent
from wire.desktop.stream import DesktopStreamError
from wire.http.connection import Request, Response
from wire.session.audit import AuditOwner, SessionRecord
from wire.session.grant import ID_BYTES, Offer, SessionMode, SessionService
from wire.session.log import SessionLog
from wire.session.messages import EndMessage, HeadMessage
from wire.session.recorder import SessionRecorder
from wire.session.table import Cause, End, SessionState

CHECK_SECONDS: Final = 1.0
"""Interval at which the data center checks again whether open sessions are permitted."""
DRAG_SECONDS: Final = 5.0
"""The interval between pointer movements while a staff member drags."""
SETTLED_SECONDS: Final = 3.0
"""The time after the end of a session within which the desktop must have released all keys and buttons."""
_KEY: Final = 0x61
_SIDE: Final = 89


class EmulSessionLog(SessionLog):
    """An audit file on an emulated disk: `prevents` says why nothing can be written, or ""."""

    def __init__(self, path: Path, owner: AuditOwner, prevents: Callable[[], str]) -> None:
        """Raises: OSError, AuditFileError."""
        self._prevents = prevents
        if why := prevents():
            raise OSError(errno.ENOSPC, why)
        super().__init__(path, owner)

    def append(self, record: SessionRecord) -> None:
        """See `SessionLog.append`."""
        if why := self._prevents():
            raise OSError(errno.ENOSPC, why)
        super().append(record)


class RulesetPath(EmulPath):
    """The paths of sessions as elements of the box's ruleset, which decides on the packets of desktops."""

    def __init__(self, firewall: VirtualFirewall, now_ns: Callable[[], int]) -> None:
        super().__init__(firewall.is_in_force, now_ns)
        self._firewall = firewall

    async def open(self, offer: Offer, seconds: int) -> bool:
        """See `SessionPath.open`."""
        if not await super().open(offer, seconds):
            return False
        try:
            for path in paths_of(offer):
                self._firewall.open_session(path, seconds)
        except NotEnforced:
            await self.close(offer)
            return False
        return True

    async def close(self, offer: Offer) -> None:
        """See `SessionPath.close`."""
        await super().close(offer)
        for path in paths_of(offer):
            self._firewall.close_session(path)

    def clear(self) -> None:
        """See `EmulPath.clear`."""
        for offer, _ in self._elements.values():
            for path in paths_of(offer):
                self._firewall.close_session(path)
        super().clear()

    def offer(self, session: bytes) -> Offer | None:
        """See `EmulPath.offer`; the ruleset decides on packets from the tunnel."""
        offer = super().offer(session)
        return offer if offer is not None and self._firewall.passes(paths_of(offer)[0]) else None


def paths_of(offer: Offer) -> tuple[Session, Session]:
    """Return the paths from staff to the box, and from the box to the instrument."""
    desktop = Service("tcp", offer.tcp_port)
    box, instrument = box_address(offer.port), instrument_address(offer.port)
    return (
        Session(ip_address(TUNNEL_STAFF), THE_BOX, ip_address(TUNNEL_BOX), desktop),
        Session(ip_address(box), offer.port, ip_address(instrument), desktop),
    )


@dataclass
class EmulRecording:
    """A recording of a session that stores nothing; only whether it can be written is emulated."""

    fails: Layers[None]

    @property
    def is_writable(self) -> bool:
        """See `SessionRecording.is_writable`."""
        return not self.fails

    def add(self, part: bytes) -> None:  # noqa: ARG002
        """See `datacenter.desktop.receiver.StreamRecorder.add`."""
        if self.fails:
            raise OSError(errno.ENOSPC, "the recording cannot be written")

    async def close(self) -> bytes:
        """See `SessionRecording.close`."""
        return b""


@dataclass
class SessionTroubles:
    """The effects of faults on the sessions of a data center."""

    withdrawn: Layers[None] = field(default_factory=Layers)
    untrained: Layers[None] = field(default_factory=Layers)
    recording_fails: Layers[None] = field(default_factory=Layers)
    audit_fails: Layers[None] = field(default_factory=Layers)


class VirtualSessionDesk:
    """The data center's remote sessions, over all starts of its program; faults change their conditions."""

    def __init__(
        self,
        loop: SimLoop,
        host: SimHost,
        keys: SessionKeys,
        audit_file: Path,
        now_ns: Callable[[], int],
        random: Callable[[str], Random],
        troubles: SessionTroubles,
    ) -> None:
        """`audit_file` is the data center's; `now_ns` is the wall clock."""
        self.audit_file = audit_file
        self._loop, self._host, self._keys, self._now_ns = loop, host, keys, now_ns
        self._troubles = troubles
        self._key, self._make_key = RepeatableKey(keys.datacenter), drawn_keys(random("keys of offers"))
        self._ids = random("ids of sessions")
        self._endpoints: list[EmulEndpoint] = []
        self._recordings: dict[bytes, EmulRecording] = {}
        self._desk: SessionDesk | None = None
        self._outbox = Outbox()
        self._exchange: SessionExchange | None = None
        self._runs = 0
        self.desktops: dict[str, InstrumentDesktop] = {}
        """The desktops by the serial numbers of the instruments."""
        self.desktop_ports: dict[str, tuple[int, int]] = {}
        """The ports of the instruments, and the TCP ports of their desktops, by serial number."""

    def kill_tunnels(self) -> None:
        """Kill the processes of all tunnels."""
        for endpoint in self._endpoints:
            endpoint.lose("killed")

    async def start(self) -> None:
        """Set up the sessions of a program that has started, and listen for tunnels."""
        self._runs += 1
        keys = self._keys
        log = EmulSessionLog(
            self.audit_file,
            AuditOwner(End.DATA_CENTER, DATACENTER_NAME),
            lambda: "the disk is full" if self._troubles.audit_fails else "",
        )
        audit = SessionRecorder(
            log, self._key, str(self._runs), self._now_ns, self._monotonic_ns, self._send_head
        )
        listener = TunnelListener()
        self._outbox, self._endpoints = Outbox(), []
        for unended in log.unended:
            interrupted = read_interrupted(unended, keys.datacenter_keys)
            await end_interrupted(interrupted, audit)
            self._outbox.send(BOX_SERIAL, EndMessage(interrupted.session, Cause.RESTARTED))
        self._desk = SessionDesk(
            Surroundings(
                name=DATACENTER_NAME,
                key=self._key,
                datacenter_keys=keys.datacenter_keys,
                box_keys=lambda box: keys.box_keys if box == BOX_SERIAL else {},
                wall_ns=self._now_ns,
                monotonic_ns=self._monotonic_ns,
                audit=audit,
                permits=lambda _: not self._troubles.withdrawn,
                has_training=lambda _: not self._troubles.untrained,
                make_endpoint=lambda offer, key: self._make_endpoint(offer, key, listener),
                record=self._record,
                send=self._outbox.send,
                changed=lambda: None,
                make_key=self._make_key,
            )
        )
        self._exchange = SessionExchange(self._desk, self._outbox)
        await self._loop.create_server(listener.accept, DATACENTER_TUNNEL, DATACENTER_PORT)
        self._loop.create_task(self._check(self._desk))

    async def _check(self, desk: SessionDesk) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await desk.check_permissions()

    def _make_endpoint(
        self, offer: Offer, key: EllipticCurvePrivateKey, listener: TunnelListener
    ) -> EmulEndpoint:
        self._endpoints.append(EmulEndpoint(offer.id, key, listener, self._now_ns))
        return self._endpoints[-1]

    def _record(self, offer: Offer) -> EmulRecording:
        self._recordings[offer.id] = EmulRecording(self._troubles.recording_fails)
        return self._recordings[offer.id]

    def _send_head(self, session: bytes, head: bytes) -> None:
        self._outbox.send(BOX_SERIAL, HeadMessage(session, head))

    def _monotonic_ns(self) -> int:
        return self._loop.env.now

    # -- see `datacenter.ingest.BoxSessionExchange`

    def is_authorized(self, box: str) -> bool:
        """Return whether a box may have sessions."""
        return box == BOX_SERIAL

    def has_messages(self, box: str) -> bool:
        """Return whether messages wait for a box."""
        return self._outbox.has(box)

    async def answer(self, box: str, certificate: bytes | None, request: Request) -> Response:  # noqa: ARG002
        """Answer a request of the box."""
        assert self._exchange is not None
        return await self._exchange.answer(box, request)

    # -- staff: see `sim.worlds.shared.staff.sessions.StaffPortal`

    async def request(self, session: LabSession, serial: str) -> VirtualStaffSession:
        """See `StaffPortal.request`."""
        port, tcp_port = self.desktop_ports[serial]
        request = WantedSession(
            session.staff,
            session.role,
            BOX_SERIAL,
            serial,
            port,
            SessionService.RFB,
            tcp_port,
            SessionMode(session.mode),
            session.lasts // 1_000_000_000,
            self._ids.randbytes(ID_BYTES),
        )
        sessions: list[DeskSession] = []

        async def ask() -> None:
            assert self._desk is not None
            sessions.append(await self._desk.request(request))

        await self.run(ask())
        return VirtualStaffSession(self, sessions[0] if sessions else None, self.desktops[serial])

    async def end(self, session: bytes) -> None:
        """End a session, or withdraw its request."""
        if self._desk is not None:
            await self.run(self._desk.end(session))

    def recording(self, session: bytes) -> EmulRecording:
        """Return the recording of a session that is open, or was."""
        return self._recordings[session]

    def find(self, session: bytes) -> DeskSession | None:
        """Return a session of the running program."""
        return self._desk.find(session) if self._desk is not None and self._host.incarnation else None

    async def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine of the program, which ends with the program."""
        incarnation: Incarnation | None = self._host.incarnation
        if incarnation is None:
            coroutine.close()
            return
        task = incarnation.run(self._loop, coroutine)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


class VirtualStaffSession:
    """A `StaffSessionView`."""

    def __init__(
        self, sessions: VirtualSessionDesk, session: DeskSession | None, desktop: InstrumentDesktop
    ) -> None:
        """`session` is None if the program was down, or was killed meanwhile."""
        self._sessions, self._desktop = sessions, desktop
        is_new = session is None or session.state is SessionState.NEW
        self.id = b"" if session is None or is_new else session.id
        self.code = "" if session is None else session.code
        self._has_control = session is not None and session.offer.mode is SessionMode.CONTROL

    async def state(self) -> str:
        """See `StaffSessionView.state`."""
        session = self._sessions.find(self.id)
        return SessionState.ENDED if session is None else session.state

    async def end(self) -> None:
        """See `StaffSessionView.end`."""
        await self._sessions.end(self.id)

    async def use(self) -> list[str]:
        """See `StaffSessionView.use`."""
        problems: list[str] = []
        count = len(self._desktop.left_pressed)
        await self._sessions.run(self._use(problems))
        await asyncio.sleep(SETTLED_SECONDS)
        return problems + [
            f"still pressed after its end: {pressed}" for pressed in self._desktop.left_pressed[count:]
        ]

    async def _use(self, problems: list[str]) -> None:
        session = self._sessions.find(self.id)
        if session is None:
            return
        connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        reader = asyncio.StreamReader()
        try:
            await session.connect(
                asyncio.StreamReaderProtocol(reader, lambda _, writer: connected.set_result(writer))
            )
        except (SessionClosed, OSError) as error:
            problems.append(f"the desktop could not be reached: {error}")
            return
        writer = connected.result()
        receiver = DesktopReceiver(TcpChannel(reader, writer), self._sessions.recording(self.id))
        dragging = asyncio.create_task(self._drag(receiver))
        try:
            await receiver.run()
        except (EOFError, DesktopStreamError, OSError):
            if not self._sessions.recording(self.id).is_writable:
                await session.recording_failed()
        finally:
            dragging.cancel()
            writer.transport.abort()
        if not receiver.updates:
            problems.append("no picture of the desktop arrived")

    async def _drag(self, receiver: DesktopReceiver) -> None:
        """Press a key and a button, and move the pointer."""
        if not self._has_control:
            return
        with suppress(OSError):
            await receiver.send(KeyEvent(_KEY, is_down=True))
            for step in itertools.count():
                await receiver.send(PointerEvent(1, step % _SIDE, step % _SIDE))
                await asyncio.sleep(DRAG_SECONDS)


class VirtualPage:
    """A `PageOfPort` that calls the functions of the box program's page."""

    def __init__(
        self,
        loop: SimLoop,
        host: SimHost,
        sessions: Callable[[], BoxSessions | None],
        port: int,
    ) -> None:
        """`host` is the box; `sessions` returns None while its program does not run."""
        self._loop, self._host, self._sessions, self._port = loop, host, sessions, port

    async def state(self, session: bytes) -> str:
        """See `PageOfPort.state`."""
        box_session = self._find(session)
        return box_session.state if box_session is not None else ""

    async def look(self) -> None:
        """See `PageOfPort.look`."""
        if (sessions := self._sessions()) is not None:
            for session in sessions.at_port(self._port):
                session.page_seen()

    async def enter_code(self, session: bytes, code: str) -> bool:
        """See `PageOfPort.enter_code`."""
        answers: list[bool] = []

        async def enter(sessions: BoxSessions) -> None:
            answers.append(await sessions.enter_code(session, self._port, code))

        await self._act(enter)
        return answers == [True]

    async def refuse(self, session: bytes) -> None:
        """See `PageOfPort.refuse`."""
        await self._act(lambda sessions: sessions.refuse(session, self._port))

    async def end(self, session: bytes) -> None:
        """See `PageOfPort.end`."""
        await self._act(lambda sessions: sessions.end(session, self._port))

    async def _act(self, action: Callable[[BoxSessions], Coroutine[Any, Any, object]]) -> None:
        sessions, incarnation = self._sessions(), self._host.incarnation
        if sessions is not None and incarnation is not None:
            await asyncio.wait([incarnation.run(self._loop, action(sessions))])

    def _find(self, session: bytes) -> BoxSession | None:
        sessions = self._sessions()
        at_port = sessions.at_port(self._port) if sessions is not None else []
        return next((box_session for box_session in at_port if box_session.id == session), None)
