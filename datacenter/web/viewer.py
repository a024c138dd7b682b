"""Shows the desktop of a remote session, or its recording, in a browser: RFB over a WebSocket.

The requester sees the desktop and, in a session with control, operates it. Others who may open such a session
themselves (`view-session`) may watch it. A person who watches a live desktop, and loses the right or signs out, is
disconnected within RIGHTS_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.websockets import WebSocket

from datacenter.access.control import CallerDecider
from datacenter.access.request import Resource
from datacenter.access.vocabulary import Purpose
from datacenter.desktop.receiver import ShownDesktop
from datacenter.desktop.recording import RecordingError
from datacenter.desktop.replay import RecordedDesktop
from datacenter.desktop.websocket import handshake_of, serve_viewer
from datacenter.fleet.visible import Visibility, find_instrument
from datacenter.sessions.listing import SessionRow, find_session_row
from datacenter.sessions.live_desktop import LiveDesktop
from datacenter.sessions.requests import replay_purpose
from datacenter.store.errors import StoreError
from datacenter.web.routes import (
    NotFoundError,
    RefusedError,
    WebRoute,
    WebServices,
    check_access,
)
from datacenter.web.sessions import StaffSession
from wire.desktop.stream import DesktopStreamError
from wire.session.grant import SessionMode

PATH: Final = "/sessions/{session}/viewer"
REPLAY: Final = "/sessions/{session}/replay"
PURPOSE: Final[Purpose] = "service"
RIGHTS_SECONDS: Final = 2.0
CONNECT_SECONDS_MAX: Final = 20.0
_REFUSED: Final = 1008


@dataclass(frozen=True)
class _Admitted:
    """A permitted viewer: the session of the staff member, the remote session, and its instrument."""

    staff: StaffSession
    row: SessionRow
    instrument: Resource


class DesktopViewers:
    """Serves the viewers of all desktops."""

    def __init__(self, services: WebServices) -> None:
        self._services = services

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one viewer until the viewer disconnects or the session ends."""
        admitted = await self._admit(websocket, self._decide)
        live = self._live(admitted.row.id) if admitted else None
        shown = await shown_desktop(live) if live else None
        if admitted is None or live is None or shown is None:
            await websocket.close(_REFUSED)
            return
        is_own = admitted.staff.staff == admitted.row.staff
        has_control = is_own and live.session.offer.mode is SessionMode.CONTROL
        async with live.viewing(admitted.staff.staff):
            viewer = asyncio.ensure_future(
                serve_viewer(websocket, shown, admitted.row.instrument, has_control=has_control)
            )
            over = asyncio.ensure_future(self._until_over(websocket, admitted, live))
            try:
                await asyncio.wait((viewer, over), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (viewer, over):
                    task.cancel()
                await asyncio.wait((viewer, over))

    async def replay(self, websocket: WebSocket) -> None:
        """Replay a recording to one viewer until the viewer disconnects."""
        admitted = await self._admit(websocket, self._decide_replay)
        remote = self._services.remote
        if admitted is None or remote is None:
            await websocket.close(_REFUSED)
            return
        try:
            recording = await asyncio.to_thread(remote.read_recording, admitted.row)
            desktop = RecordedDesktop(recording)
        except (RecordingError, DesktopStreamError, OSError):
            await websocket.close(_REFUSED)
            return
        running = asyncio.ensure_future(desktop.run())
        viewer = asyncio.ensure_future(
            serve_viewer(websocket, desktop, f"Recording of {admitted.row.instrument}", has_control=True)
        )
        try:
            await asyncio.wait((viewer, running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (viewer, running):
                task.cancel()
            await asyncio.wait((viewer, running))

    def _live(self, session: str) -> LiveDesktop | None:
        remote = self._services.remote
        live = remote.desktop(bytes.fromhex(session)) if remote is not None else None
        return None if live is None or live.ended.is_set() else live

    async def _admit(
        self, websocket: WebSocket, decide: Callable[[StaffSession, str], _Admitted | None]
    ) -> _Admitted | None:
        """Return the connecting person and the session; None without the right, or for a page of another site."""
        services = self._services
        if urlsplit(websocket.headers.get("origin", "")).netloc != websocket.headers.get("host"):
            return None
        try:
            staff = await services.session(handshake_of(websocket))
            if staff is None:
                return None
            admitted: _Admitted | None = await services.read(
                lambda: decide(staff, str(websocket.path_params["session"]))
            )
        except (NotFoundError, RefusedError, StoreError):
            return None
        return admitted

    def _decide(self, staff: StaffSession, session: str) -> _Admitted | None:
        """Admit a viewer of a live desktop; recorded. Raises: NotFoundError, RefusedError, StoreError."""
        services, person = self._services, self._services.person(staff)
        if person is None:
            return None
        visible = Visibility(services.policies, person.principal, services.now_ms(), PURPOSE)
        check_access(_ROUTE, services, visible, {"session": session})
        row = find_session_row(services.store, session)
        instrument = find_instrument(services.store, row.box, row.instrument) if row else None
        if row is None or instrument is None:
            return None
        if row.staff != staff.staff:
            decider = CallerDecider(services.rules(), services.log.decision, person.principal)
            decision = decider.decide(staff.staff, "view-session", instrument, visible.context)
            if not decision.permitted:
                raise RefusedError(decision.reason)
        return _Admitted(staff, row, instrument)

    def _decide_replay(self, staff: StaffSession, session: str) -> _Admitted | None:
        """Admit a viewer of a recording; recorded. Raises: NotFoundError, RefusedError, StoreError."""
        services, person = self._services, self._services.person(staff)
        row = find_session_row(services.store, session)
        if person is None or row is None:
            return None
        purpose = replay_purpose(row, staff.staff)
        visible = Visibility(services.policies, person.principal, services.now_ms(), purpose)
        check_access(_REPLAY, services, visible, {"session": session})
        return _Admitted(staff, row, row.resource)

    async def _until_over(self, websocket: WebSocket, admitted: _Admitted, live: LiveDesktop) -> None:
        """Wait until the desktop has ended, or the person may no longer see it."""
        while not live.ended.is_set():
            try:
                async with asyncio.timeout(RIGHTS_SECONDS):
                    await live.ended.wait()
            except TimeoutError:
                if not await self._may_still(websocket, admitted):
                    return

    async def _may_still(self, websocket: WebSocket, admitted: _Admitted) -> bool:
        services = self._services
        try:
            staff = await services.session(handshake_of(websocket))
        except StoreError:
            return True  # not known without the database; checked again after RIGHTS_SECONDS
        person = services.person(staff)
        if person is None:
            return False
        visible = Visibility(services.policies, person.principal, services.now_ms(), PURPOSE)
        is_own = admitted.row.staff == admitted.staff.staff
        return is_own or visible.decide("view-session", admitted.instrument).permitted


async def shown_desktop(live: LiveDesktop) -> ShownDesktop | None:
    """Return the desktop once the box is connected; None if that takes too long."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            return await live.shown()
    except TimeoutError:
        return None


def _unused(_: object) -> None:
    raise AssertionError("the row has no handler: it is only for the access check")


_REPLAY: Final = WebRoute("GET", REPLAY, "replay-session", "Session", _unused, "a recording", purpose="audit")  # type: ignore[arg-type]
_ROUTE: Final = WebRoute("GET", PATH, "view", "Session", _unused, "the desktop of a session", purpose=PURPOSE)  # type: ignore[arg-type]
