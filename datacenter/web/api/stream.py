"""The desktop port of a session over a WebSocket, for a program of the requester with an API token.

The bytes are those of the instrument's TCP service or, for a desktop, RFB for any VNC viewer.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from datacenter.access.control import CallerDecider
from datacenter.access.request import RequestContext
from datacenter.desktop.receiver import ShownDesktop
from datacenter.desktop.viewer import DesktopViewer
from datacenter.desktop.websocket import WebSocketChannel, close_if_connected, handshake_of
from datacenter.fleet.visible import find_instrument
from datacenter.sessions.listing import find_session_row
from datacenter.sessions.live_desktop import LiveDesktop
from datacenter.sessions.live_stream import LiveStream, TooManyConnectionsError
from datacenter.sessions.rights import ACTIONS
from datacenter.sessions.session import SessionClosed
from datacenter.store.errors import StoreError
from datacenter.web.api.callers import Caller, Callers, TooManyRequestsError, UnknownCallerError
from datacenter.web.api.json_responses import PREFIX
from datacenter.web.routes import WebServices
from datacenter.web.viewer import shown_desktop
from wire.desktop.rfb import RfbError
from wire.session.grant import SessionMode

PATH: Final = f"{PREFIX}/sessions/{{session}}/stream"
_REFUSED, _ENDED, _FAILED = 1008, 1000, 1011


class RawStreams:
    """Serves the WebSockets of raw TCP services and desktops."""

    def __init__(self, services: WebServices, callers: Callers) -> None:
        self._services, self._callers = services, callers

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection until it or the session ends. The close frame has a reason if the caller is known."""
        session = str(websocket.path_params["session"])
        try:
            caller = await self._callers.identify(handshake_of(websocket), changes=True)
            refusal: str = await self._services.read(lambda: self._refusal(caller, session))
        except (UnknownCallerError, TooManyRequestsError, StoreError):
            await websocket.close(_REFUSED)
            return
        await websocket.accept()
        stream, desktop = (None, None) if refusal else await self._find(session)
        code, reason = _REFUSED, refusal or "the session is not open"
        if stream is not None:
            code, reason = await self._carry(websocket, stream)
        elif desktop is not None:
            code, reason = await _view(websocket, caller.staff, *desktop)
        await close_if_connected(websocket, code, reason)

    async def _carry(self, websocket: WebSocket, stream: LiveStream) -> tuple[int, str]:
        try:
            await stream.serve(_WebSocketEnd(websocket))
        except TooManyConnectionsError as error:
            return _REFUSED, str(error)
        except (OSError, SessionClosed) as error:
            return _FAILED, f"the instrument cannot be reached: {error}"
        return _ENDED, "the connection has ended"

    async def _find(self, session: str) -> tuple[LiveStream | None, tuple[LiveDesktop, ShownDesktop] | None]:
        """Return the raw TCP service of an open session, or its desktop once the box is connected."""
        remote, id = self._services.remote, bytes.fromhex(session)
        if remote is None:
            return None, None
        live = remote.desktop(id)
        shown = None if live is None or live.ended.is_set() else await shown_desktop(live)
        return remote.stream(id), None if live is None or shown is None else (live, shown)

    def _refusal(self, caller: Caller, session: str) -> str:
        """Return why the caller may not use the session; empty if they may. The policies' decision is recorded."""
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


async def _view(websocket: WebSocket, staff: str, live: LiveDesktop, shown: ShownDesktop) -> tuple[int, str]:
    """Show the desktop until the viewer disconnects or the session ends; return the close code and the reason."""
    offer = live.session.offer
    viewer = DesktopViewer(
        shown,
        WebSocketChannel(websocket),
        offer.instrument,
        has_control=offer.mode is SessionMode.CONTROL,
    )
    async with live.viewing(staff):
        tasks = [asyncio.ensure_future(work) for work in (viewer.run(), live.ended.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcome, _ = await asyncio.gather(*tasks, return_exceptions=True)
    return _ENDED, str(outcome) if isinstance(outcome, RfbError) else "the connection has ended"


class _WebSocketEnd:
    """A WebSocket as a `datacenter.sessions.live_stream.RequesterEnd`; message boundaries have no meaning."""

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
