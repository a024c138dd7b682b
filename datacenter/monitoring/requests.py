"""Counts the HTTP requests of the two listeners: of boxes (`wire.http`) and of staff (ASGI)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datacenter.ingest import PATH
from wire.files import FILES_PATH
from wire.http.connection import Handler, Request, Response
from wire.messages import TIME_PATH
from wire.release.messages import PATH as UPDATE_PATH
from wire.release.messages import RELEASES_PATH

Observe: TypeAlias = Callable[[str, str, str, int, float], None]
"""Counts a request: listener, method, route, status, seconds."""
NO_ROUTE: Final = "none"
ABORTED: Final = 499
"""The status of a request without a response, because the client has disconnected."""


def measured_handler(handler: Handler, observe: Observe) -> Handler:
    """Return a handler that also counts the boxes' requests."""

    async def answer(request: Request) -> Response:
        loop = asyncio.get_running_loop()
        begun, status = loop.time(), ABORTED
        try:
            response = await handler(request)
            status = response.status
            return response
        except Exception:
            status = 500
            raise
        finally:
            observe("boxes", request.method, _route(request.target), int(status), loop.time() - begun)

    return answer


def _route(target: str) -> str:
    for path in (FILES_PATH, RELEASES_PATH):
        if target.startswith(path):
            return path
    return target if target in (PATH, TIME_PATH, UPDATE_PATH) else NO_ROUTE


def measured_application(application: ASGIApp, observe: Observe) -> ASGIApp:
    """Return an application that also counts the requests of staff; the router sets `route` in the scope."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        begun, status = loop.time(), ABORTED

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await application(scope, receive, send_counted)
        finally:
            if scope["type"] == "http":
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                observe("staff", scope["method"], route, status, loop.time() - begun)

    return call
