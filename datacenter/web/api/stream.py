"""The raw TCP service of a session for the requester's program: its bytes in a WebSocket, by an API token."""

from __future__ import annotations

from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from datacenter.access.control import CallerDecider
from datacenter.access.request import RequestContext
from datacenter.desktop.websocket import close_connected, handshake_of
from datacenter.fleet.visible import find_instrument
from datacenter.sessions.listing import find_session_row
from datacenter.sessions.live_stream import LiveStream, TooManyConnectionsError
from datacenter.sessions.rights import ACTIONS
from datacenter.sessions.session import SessionClosed
from datacenter.store.errors import StoreError
from datacenter.web.api.answers import PREFIX
from datacenter.web.api.callers import Caller, Callers, TooManyRequestsError, UnknownCallerError
from datacenter.web.routes import WebServices
from wire.session.grant import SessionMode

PATH: Final = f"{PREFIX}/sessions/{{session}}/stream"
_REFUSED, _ENDED, _FAILED = 1008, 1000, 1011


class RawStreams:
    """Serves the connections of all raw TCP services."""

    def __init__(self, services: WebServices, callers: Callers) -> None:
        self._services, self._callers = services, callers

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection, until it or the session ends. A refusal is told in the reason of the close."""
        session = str(websocket.path_params["session"])
        try:
            caller = await self._callers.identify(handshake_of(websocket), changes=True)
            refusal: str = await self._services.read(lambda: self._refusal(caller, session))
        except (UnknownCallerError, TooManyRequestsError, StoreError):
            await websocket.close(_REFUSED)
            return
        await websocket.accept()
        stream = None if refusal else self._stream(session)
        code, reason = _REFUSED, refusal or "the session is not open, or has no raw TCP service"
        if stream is not None:
            code, reason = await self._carry(websocket, stream)
        await close_connected(websocket, code, reason)

    async def _carry(self, websocket: WebSocket, stream: LiveStream) -> tuple[int, str]:
        try:
            await stream.serve(_WebSocketEnd(websocket))
        except TooManyConnectionsError as error:
            return _REFUSED, str(error)
        except (OSError, SessionClosed) as error:
            return _FAILED, f"the instrument cannot be reached: {error}"
        return _ENDED, "the connection has ended"

    def _stream(self, session: str) -> LiveStream | None:
        remote = self._services.remote
        return remote.stream(bytes.fromhex(session)) if remote is not None else None

    def _refusal(self, caller: Caller, session: str) -> str:
        """Return why the caller may not use the session; nothing if it is theirs. The decision is recorded."""
        services = self._services
        row = find_session_row(services.store, session)
        instrument = find_instrument(services.store, row.box, row.instrument) if row else None
        if row is None or instrument is None or row.staff != caller.staff:
            return f"you have requested no session {session}"
        decider = CallerDecider(services.rules(), services.log.decision, caller.entry.principal, caller.token)
        context = RequestContext(services.now_ms(), caller.purpose or "service", caller.token)
        action = ACTIONS[SessionMode(row.mode)]
        decision = decider.decide(caller.staff, action, instrument, context)
        return "" if decision.permitted else decision.reason


class _WebSocketEnd:
    """As `datacenter.sessions.live_stream.StreamEnd`; where messages are divided has no meaning."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> bytes:
        try:
            message = await self._websocket.receive()
        except (RuntimeError, WebSocketDisconnect):
            return b""
        return message.get("bytes") or b""

    async def send(self, data: bytes) -> None:
        try:
            await self._websocket.send_bytes(data)
        except (RuntimeError, WebSocketDisconnect):
            raise BrokenPipeError("the WebSocket is closed") from None
