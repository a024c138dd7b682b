"""Serves the staff's web application by uvicorn, in the data center's event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STOP_SECONDS_MAX: Final = 5
"""Time for requests in progress when the server stops."""
CONNECTIONS_MAX: Final = 256
WEBSOCKET_PING_SECONDS: Final = 10
WEBSOCKET_PONG_SECONDS_MAX: Final = 15
"""Time for a browser to respond to a ping. A lost connection is closed after at most 25 s."""
SENT_SECONDS_MAX: Final = 20
"""Time without an acknowledgement of sent data after which the kernel ends a connection (TCP_USER_TIMEOUT, RFC
5482)."""
WEBSOCKET_MESSAGE_BYTES_MAX: Final = 64 * 1024
HEAD_BYTES_MAX: Final = 64 * 1024
"""Limit of the header section of a request; it can be exceeded by one read."""


class _BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose header section is too long; uvicorn would keep it in memory without a limit."""

    _is_in_head = False
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if was_in_head and self._is_in_head else 0
        if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response(f"The header section is longer than {HEAD_BYTES_MAX} bytes.")

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()


class _StaffServer(uvicorn.Server):
    """A server that installs no signal handlers; the program handles signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(
    application: ASGIApp, host: str, port: int, *, has_websockets: bool = False
) -> AsyncIterator[int]:
    """Serve within the block; the value is the TCP port. Raises: OSError if the address is unusable."""
    config = uvicorn.Config(
        application,
        http=_BoundedHttp,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio" if has_websockets else "none",
        ws_ping_interval=WEBSOCKET_PING_SECONDS,
        ws_ping_timeout=WEBSOCKET_PONG_SECONDS_MAX,
        ws_max_size=WEBSOCKET_MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=STOP_SECONDS_MAX,
    )
    server = _StaffServer(config)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # exists only on Linux; accepted connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SENT_SECONDS_MAX * 1000)
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task
