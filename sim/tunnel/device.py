"""The box's TUN device in virtual time: its listening addresses are reachable only through its tunnel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Accepted = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class EmulTunDevice:
    """The listeners on the box's address in the tunnel, by TCP port."""

    def __init__(self) -> None:
        self._listeners: dict[int, Accepted] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, accepted: Accepted, port: int) -> asyncio.AbstractServer:
        """Listen on a port of the box's address in the tunnel. Raises: OSError if it is in use."""
        if port in self._listeners:
            raise OSError(f"port {port} of the tunnel is in use")
        self._listeners[port] = accepted
        return _Listener(lambda: self._listeners.pop(port, None))

    def connect(self, port: int, protocol: asyncio.Protocol) -> None:
        """Connect a protocol to the listener on a port. Raises: ConnectionRefusedError."""
        accepted = self._listeners.get(port)
        if accepted is None:
            raise ConnectionRefusedError(f"nothing listens on port {port} of the tunnel")
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        inner = asyncio.StreamReaderProtocol(reader)
        outside, inside = _End(inner), _End(protocol)
        inner.connection_made(inside)
        writer = asyncio.StreamWriter(inside, inner, reader, loop)
        protocol.connection_made(outside)
        outside.other, inside.other = inside, outside
        task = loop.create_task(_run(accepted, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _run(accepted: Accepted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await accepted(reader, writer)


class _End(asyncio.Transport):
    """One end of a connection inside the box; what is written arrives at `protocol`, which is at the other end."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol, self._is_closing = protocol, False
        self.other: _End | None = None

    def write(self, data: Any) -> None:
        if not self._is_closing:
            self._protocol.data_received(bytes(data))

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        loop = asyncio.get_running_loop()
        for end in (self, self.other):
            if end is not None and not end._is_closing:
                end._is_closing = True
                loop.call_soon(end._protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        if self.other is not None:
            self.other._protocol.pause_writing()

    def resume_reading(self) -> None:
        if self.other is not None and not self._is_closing:
            self.other._protocol.resume_writing()


class _Listener(asyncio.AbstractServer):
    def __init__(self, forget: Callable[[], object]) -> None:
        self._forget = forget

    def close(self) -> None:
        self._forget()

    async def wait_closed(self) -> None:
        """Closing is immediate."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def is_serving(self) -> bool:
        return True

    async def start_serving(self) -> None:
        """Listening starts at once."""

    async def serve_forever(self) -> None:
        await asyncio.get_running_loop().create_future()
