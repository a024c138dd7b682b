"""HTTP connections on a transport that records the bytes written to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from wire.http.connection import (
    ClientConnection,
    Handler,
    Request,
    Response,
    ServerConnection,
)

BODY_MAX = 100


class Line(asyncio.Transport):
    """The transport beneath a connection under test."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.sent = b""
        self.closed = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "written to after the close"
        self.sent += data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(None)

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.sent)]


async def echo(request: Request) -> Response:
    return Response(200, request.method.encode() + b" " + request.target.encode() + b" " + request.body)


def answered(*chunks: bytes, handler: Handler = echo) -> Line:
    """Return the response of a server to these bytes."""

    async def exchange() -> Line:
        line = Line(ServerConnection(handler, BODY_MAX, lambda: 0.0, 60.0, lambda: None))
        for chunk in chunks:
            line.protocol.data_received(chunk)
        await settle()
        return line

    return asyncio.run(exchange())


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def post(body: bytes, target: str = "/x") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def client_with(use: Callable[[ClientConnection, Line], Awaitable[object]]) -> object:
    async def exchange() -> object:
        client = ClientConnection("h", BODY_MAX)
        return await use(client, Line(client))

    return asyncio.run(exchange())
