"""Serves the page on a UNIX socket, to which httpd connects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from hal.unix_socket import Listener
from wire.http.admission import Admissions, Limits
from wire.http.connection import Handler, Server, ServerConnection

BODY_BYTES_MAX: Final = 4096
"""Maximum length of a form. httpd's LimitRequestBody does not apply to requests that it forwards."""
LIMITS: Final = Limits(connections_max=64, request_s=10.0)
MODE: Final = 0o660


@asynccontextmanager
async def serve_page(
    path: Path, handle: Handler, now: Callable[[], float], gid: int = -1
) -> AsyncIterator[None]:
    """Serve the page at `path`, for programs of the group `gid`, during the context. `now` is the wall clock.

    Raises: OSError, also if another program listens at `path`, or if the file is not a socket.
    """

    def serve_connection(lost: Callable[[], None]) -> asyncio.Protocol:
        return ServerConnection(handle, BODY_BYTES_MAX, now, LIMITS.request_s, lost)

    listener = Listener(path, MODE, gid)
    try:
        admissions, loop = Admissions(LIMITS, None, serve_connection, None), asyncio.get_running_loop()
        listening = await loop.create_unix_server(
            admissions.accept, sock=listener.socket, backlog=LIMITS.backlog
        )
        server = Server(listening, admissions)
        try:
            yield
        finally:
            await server.close()
    finally:
        listener.close()
