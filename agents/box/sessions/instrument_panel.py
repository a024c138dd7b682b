"""Remote sessions on the instrument's own display: what its agent shows, and what the person enters.

The rules are those of the local page. A session on the instrument's display counts as shown on an open page, also for
a press of the switch. The code is evidence for exactly one offer, and counts only if no desktop of the port is
shared, because staff could operate the instrument's display too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from agents.box.sessions.session import BoxSession
from agents.box.sessions.sessions import BoxSessions
from wire.http.connection import Request, Response
from wire.messages import MessageError, decode, encode
from wire.session.panel import (
    ASK_BYTES_MAX,
    HOLD_SECONDS,
    PATH,
    SHOWN_MAX,
    EndSession,
    EnterCode,
    PanelAsk,
    PanelReply,
    PersonAction,
    Refuse,
    ShownSession,
)
from wire.session.table import SessionState

_LEFT_GRAIN_S: Final = 60
"""The time left is rounded up to a multiple of this: a change every second would end each wait for a change."""


class InstrumentPanels:
    """Answers the agents of all instruments."""

    def __init__(self, sessions: Callable[[], BoxSessions | None]) -> None:
        """`sessions` returns None while the box refuses all sessions."""
        self._find_sessions = sessions
        self._held: dict[str, asyncio.Event] = {}

    def concerns(self, request: Request) -> bool:
        """Return whether a request concerns the panel."""
        return request.target == PATH

    def changed(self) -> None:
        """Answer the requests that are held, because a session has changed."""
        for event in self._held.values():
            event.set()

    async def handle(self, request: Request, instrument: str, port: int) -> Response:
        """Answer the agent of an instrument at a port."""
        sessions = self._find_sessions()
        if sessions is None:
            return Response(HTTPStatus.NOT_FOUND, b"the box has no remote sessions at present")
        if request.method != "POST":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, b"POST only", {"allow": "POST"})
        try:
            if len(request.body) > ASK_BYTES_MAX:
                raise MessageError(f"a request has at most {ASK_BYTES_MAX} bytes")
            ask = decode(PanelAsk, request.body)
        except MessageError as error:
            return Response(HTTPStatus.BAD_REQUEST, str(error).encode())
        own = {each.id: each for each in sessions.at_port(port) if each.offer.instrument == instrument}
        for displayed in ask.displayed:
            if displayed in own:
                own[displayed].page_seen()
        if ask.action is not None and ask.action.session in own:
            await _act(sessions, ask.action, instrument, port)
        reply = _reply(sessions, instrument, port)
        if reply.version == ask.known and ask.action is None:
            await self._hold(request, instrument)
            reply = _reply(sessions, instrument, port)
        return Response(HTTPStatus.OK, encode(reply))

    async def _hold(self, request: Request, instrument: str) -> None:
        """Wait for a change, or for a further request of the instrument, on this connection or another one."""
        if instrument in self._held:
            self._held[instrument].set()
        event = self._held[instrument] = asyncio.Event()
        request.peer.on_next = event.set
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(HOLD_SECONDS):
                    await event.wait()
        finally:
            if self._held.get(instrument) is event:
                del self._held[instrument]


async def _act(sessions: BoxSessions, action: PersonAction, instrument: str, port: int) -> None:
    match action:
        case EnterCode(session, code):
            await sessions.enter_code(session, port, code, f"instrument {instrument}")
        case Refuse(session):
            await sessions.refuse(session, port)
        case EndSession(session):
            await sessions.end(session, port)


def _reply(sessions: BoxSessions, instrument: str, port: int) -> PanelReply:
    own = [each for each in sessions.at_port(port) if each.offer.instrument == instrument]
    live = [each for each in own if not each.is_over]
    last = [each for each in own if each.is_over][-1:]
    shown = [_shown(each, sessions, port) for each in [*reversed(live), *last][:SHOWN_MAX]]
    return PanelReply(sha256(encode(PanelReply("", shown))).hexdigest(), shown)


def _shown(session: BoxSession, sessions: BoxSessions, port: int) -> ShownSession:
    offer, proved = session.offer, {each.way for each in session.evidence}
    is_offered = session.state is SessionState.OFFERED
    return ShownSession(
        session.id,
        str(session.state),
        offer.staff,
        offer.role,
        "view" if offer.mode == "view" else "control",
        0 if session.is_over else -(-session.left_s // _LEFT_GRAIN_S) * _LEFT_GRAIN_S,
        [str(way) for way in sessions.ways if is_offered and way not in proved],
        sessions.is_shared(port),
        session.view_only,
        str(session.shown_cause or ""),
    )
