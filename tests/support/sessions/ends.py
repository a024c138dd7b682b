"""Both ends of sessions in simulated time, with real audit files, and a line with a delay between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from agents.box.sessions.session import BoxSession
from agents.box.sessions.sessions import BoxSessions
from agents.box.sessions.surroundings import BoxSurroundings
from datacenter.sessions.desk import SessionDesk, WantedSession
from datacenter.sessions.session import DeskSession
from datacenter.sessions.surroundings import Surroundings
from sim.net.loop import SimLoop
from tests.support.sessions.network import TUNNEL_ADDRESS, SessionNetwork, run_at_box
from tests.support.wire.grants import BOX, BOX_KEYS, DATACENTER, DATACENTER_KEYS, ISSUED, OFFER
from wire.session.audit import AuditOwner, parse_audit
from wire.session.grant import PresenceWay
from wire.session.log import SessionLog
from wire.session.messages import FromBox, HeadMessage, ToBox
from wire.session.recorder import SessionRecorder
from wire.session.table import End, SessionState
from wire.session.verify import AuditVerdict, verify_audits

DELAY_SECONDS = 0.2
BOX_CLOCK_SECONDS = 77.0
"""How many seconds the box's monotonic clock is ahead of the data center's."""
WANTED = WantedSession(
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


class EmulatedRecording:
    """A recording in memory, which may be unwritable."""

    def __init__(self, *, is_writable: bool) -> None:
        self.is_writable = is_writable

    async def close(self) -> bytes:
        return b""


class SessionEnds:
    """A data center and a box that exchange the messages of sessions."""

    def __init__(self, folder: Path, network: SessionNetwork) -> None:
        self.loop = asyncio.get_running_loop()
        self._folder = folder
        self.is_line_up = True
        self.is_permitted = self.has_training = self.can_record = True
        self.network = network
        self.endpoints, self.path = network.endpoints, network.path
        self._tasks: set[asyncio.Task[None]] = set()
        self.to_box: list[ToBox] = []
        self.from_box: list[FromBox] = []
        """All messages sent by the box; `to_box` has those of the data center."""
        self.logs: dict[End, SessionLog] = {}
        self.audits = self._open_audits()
        self.desk = SessionDesk(
            Surroundings(
                name=OFFER.issuer,
                key=DATACENTER,
                datacenter_keys=DATACENTER_KEYS,
                box_keys=lambda box: BOX_KEYS if box == OFFER.box else {},
                wall_ns=network.wall_ns,
                monotonic_ns=lambda: int(self.loop.time() * 1e9),
                audit=self.audits[End.DATA_CENTER],
                permits=lambda _: self.is_permitted,
                has_training=lambda _: self.has_training,
                make_endpoint=network.make_endpoint,
                record=lambda _: EmulatedRecording(is_writable=self.can_record),
                send=lambda _, message: self._to_box(message),
                changed=lambda: None,
            )
        )
        self.box = BoxSessions(
            BoxSurroundings(
                serial=OFFER.box,
                key=lambda: BOX,
                datacenter=DATACENTER_KEYS,
                endpoint=TUNNEL_ADDRESS,
                ways=(PresenceWay.CODE,),
                wall_ns=lambda: int((ISSUED + self.loop.time() + 0.4) * 1e9),
                monotonic_ns=lambda: int((BOX_CLOCK_SECONDS + self.loop.time()) * 1e9),
                audit=self.audits[End.BOX],
                path=self.path,
                make_tunnel=network.make_tunnel,
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

    def _to_box(self, message: ToBox) -> None:
        self.to_box.append(message)
        self._carry(self.network.on_box, lambda: self.box.receive(message))

    def _to_datacenter(self, message: FromBox) -> None:
        self.from_box.append(message)
        self._carry(self.network.on_datacenter, lambda: self.desk.receive(OFFER.box, message))

    def _carry(
        self,
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        deliver: Callable[[], Awaitable[None]],
    ) -> None:
        async def carry() -> None:
            await asyncio.sleep(DELAY_SECONDS)
            if self.is_line_up:
                await deliver()

        task = start(carry())
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
        return bool(opened) and bool(self.path.elements())

    async def request(self) -> DeskSession:
        """Request a session, and wait until it is shown."""
        session = await self.desk.request(WANTED)
        await asyncio.sleep(3 * DELAY_SECONDS)
        return session

    async def open(self) -> DeskSession:
        """Request a session, let the person permit it, and wait until it is open."""
        session = await self.request()
        assert await self.box.enter_code(session.id, OFFER.port, session.code)
        await asyncio.sleep(10 * DELAY_SECONDS)
        assert session.state is SessionState.OPEN
        assert self.passes
        return session

    def verdict(self) -> AuditVerdict:
        """Return the verdict on the audit files of both ends."""
        datacenter, box = (
            parse_audit((self._folder / end.value).read_bytes()) for end in (End.DATA_CENTER, End.BOX)
        )
        return verify_audits(datacenter, box, DATACENTER_KEYS, BOX_KEYS)


def run(folder: Path, act: Callable[[SessionEnds], Awaitable[None]]) -> AuditVerdict:
    """Call `act` with both ends in simulated time; return the verdict on the audit files after all sessions ended."""

    loop = SimLoop()
    network = SessionNetwork(loop, int(DELAY_SECONDS * 1e9))

    async def inside() -> AuditVerdict:
        await network.start()
        ends = SessionEnds(folder, network)
        await act(ends)
        await ends.box.end_all()
        for session in ends.desk.sessions:
            await ends.desk.end(session.id)
        await asyncio.sleep(5)
        assert not ends.passes
        return ends.verdict()

    verdict: AuditVerdict = run_at_box(loop, inside, network.box)
    return verdict
