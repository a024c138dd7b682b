"""All sessions of a data center: handles requests of staff and messages of boxes."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict, deque
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from datacenter.sessions.session import DeskSession
from datacenter.sessions.surroundings import Surroundings
from wire.session.executor import forget_old
from wire.session.grant import ID_BYTES, Offer, SessionMode, SessionService
from wire.session.messages import EndMessage, FromBox, GrantMessage, HeadMessage, ShownMessage, ToBox
from wire.session.table import Actor, Event, SessionState

WAITING_MAX: Final = 64
"""Maximum number of messages for a box that does not request them; the oldest are dropped."""
_SECOND_NS: Final = 1_000_000_000
_NO_KEY: Final = generate_private_key(SECP256R1()).public_key()  # `DeskSession` replaces it in each offer


class WantedSession(NamedTuple):
    """A session that a staff member requests."""

    staff: str
    role: str
    box: str
    instrument: str
    port: int
    service: SessionService
    tcp_port: int
    mode: SessionMode
    seconds: int
    id: bytes | None = None
    """The session's identifier; None: a new one is generated."""


class Outbox:
    """Messages for boxes, until the boxes request them."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, deque[ToBox]] = defaultdict(lambda: deque(maxlen=WAITING_MAX))
        self._awaited: dict[str, asyncio.Event] = {}

    def send(self, box: str, message: ToBox) -> None:
        """Keep a message for a box."""
        if message not in self._waiting[box]:
            self._waiting[box].append(message)
        if box in self._awaited:
            self._awaited[box].set()

    async def wait(self, box: str, released: asyncio.Event, seconds: float) -> None:
        """Wait until there is a message for a box, `released` is set, or the time has elapsed."""
        if box in self._waiting:
            return
        self._awaited[box] = released
        try:
            async with asyncio.timeout(seconds):
                await released.wait()
        except TimeoutError:
            pass
        finally:
            if self._awaited.get(box) is released:
                del self._awaited[box]

    def take(self, box: str) -> list[ToBox]:
        """Return the messages for a box, and remove them from the outbox."""
        return list(self._waiting.pop(box, ()))

    def has(self, box: str) -> bool:
        """Return whether there is a message for a box."""
        return box in self._waiting


class SessionDesk:
    """The sessions that have not ended, and the latest that have ended; all are in the audit log."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._sessions: dict[bytes, DeskSession] = {}

    @property
    def sessions(self) -> list[DeskSession]:
        """The sessions, oldest first."""
        return list(self._sessions.values())

    def find(self, session: bytes) -> DeskSession | None:
        """Return the session with this identifier."""
        return self._sessions.get(session)

    async def request(self, wanted: WantedSession) -> DeskSession:
        """Request a session. It is refused if its state is still `new` on return.

        Raises: GrantError for a value that an offer must not have.
        """
        issued = self._around.wall_ns() // _SECOND_NS
        offer = Offer(
            id=wanted.id or os.urandom(ID_BYTES),
            issuer=self._around.name,
            staff=wanted.staff,
            role=wanted.role,
            box=wanted.box,
            instrument=wanted.instrument,
            port=wanted.port,
            service=wanted.service,
            tcp_port=wanted.tcp_port,
            mode=wanted.mode,
            issued=issued,
            expires=issued + wanted.seconds,
            endpoint_key=_NO_KEY,
        )
        session = DeskSession(offer, self._around, self._others_with_tunnel)
        forget_old(self._sessions)
        self._sessions[session.id] = session
        await session.request()
        if session.state is SessionState.NEW:
            del self._sessions[session.id]
        return session

    async def receive(self, box: str, message: FromBox) -> None:
        """Handle a message of a box. A message that does not apply is recorded and changes nothing."""
        if isinstance(message, HeadMessage):
            self._around.audit.peer_head(message.head)
            return
        session = self._sessions.get(message.session)
        if session is None or session.offer.box != box:
            self._around.audit.refused(
                message.session, f"a message of {box} about a session that is not its own"
            )
            return
        match message:
            case ShownMessage():
                await session.event(Event.OFFER_SHOWN, Actor.BOX)
            case GrantMessage(_, grant):
                await session.granted(grant)
            case EndMessage(_, cause):
                await session.peer_ended(cause, Actor.BOX)
                self._around.changed()
        if session.is_over and not isinstance(message, EndMessage):
            self._around.send(box, EndMessage(session.id, str(session.cause)))

    def repeat_messages(self, box: str) -> None:
        """Repeat the messages that a box may not have received; called at each of its requests."""
        for session in self._sessions.values():
            if session.offer.box == box:
                session.repeat()

    async def end(self, session: bytes) -> None:
        """End the session, or withdraw its request, for the staff member."""
        if (live := self._sessions.get(session)) is not None:
            await live.event(Event.STAFF_ENDS, Actor.DATA_CENTER)

    async def check_permissions(self) -> None:
        """End the sessions that the policies or the training no longer permit."""
        for session in self.sessions:
            if not session.is_over:
                await session.check_permission()

    def _others_with_tunnel(self, session: DeskSession) -> int:
        return sum(
            other is not session and other.has_tunnel and other.offer.box == session.offer.box
            for other in self._sessions.values()
        )
