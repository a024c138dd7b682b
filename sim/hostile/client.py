"""TCP and TLS connections of hostile programs, which discard what they receive and send arbitrary bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sim.hostile import Access
from wire.process.transports import abort

CONNECT_SECONDS_MAX: Final = 5.0
"""The timeout of a connection attempt; a firewall may drop its packets."""


class HostileConnection(asyncio.Protocol):
    """A connection that discards received data. `is_open` is true from its establishment to its loss."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._changed = asyncio.Event()
        self._writable = True
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.is_open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._changed.set()

    def pause_writing(self) -> None:
        self._writable = False
        self._changed.clear()

    def resume_writing(self) -> None:
        self._writable = True
        self._changed.set()

    def stop_reading(self) -> None:
        """Stop reading, so that the box's send buffer fills."""
        if self._transport is not None and self.is_open:
            self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Send data; do nothing if the connection is lost or its send buffer is full."""
        if self._transport is not None and self.is_open and self._writable:
            self._transport.write(data)

    async def send(self, data: bytes) -> None:
        """Wait until the send buffer has room, then send data; return at once if the connection is lost."""
        if not self._writable and self.is_open:
            await self._changed.wait()
        self.write(data)

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            abort(self._transport)


async def connect(access: Access, *, secured: bool = True) -> HostileConnection | None:
    """Connect to the box, with a TLS handshake if `secured`; None if the connection or the handshake fails."""
    loop, tls = asyncio.get_running_loop(), access.tls if secured else None
    created: list[HostileConnection] = []

    def create() -> HostileConnection:
        created.append(HostileConnection())
        return created[-1]

    with suppress(OSError, ssl.SSLError):
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            _, connection = await loop.create_connection(
                create,
                access.box.address,
                access.box.port,
                ssl=tls,
                server_hostname=access.box.host if secured else None,
            )
            return connection
    for connection in created:
        connection.abort()
    return None


class ConnectionPool:
    """The open connections of a program, oldest first."""

    def __init__(self) -> None:
        self._connections: list[HostileConnection] = []

    def __iter__(self) -> Iterator[HostileConnection]:
        self._connections = [connection for connection in self._connections if connection.is_open]
        return iter(self._connections)

    def __len__(self) -> int:
        return sum(connection.is_open for connection in self._connections)

    def add(self, connection: HostileConnection) -> None:
        """Add a connection."""
        self._connections.append(connection)


@contextmanager
def connection_pool() -> Iterator[ConnectionPool]:
    """Yield an empty pool, and reset all connections in it on exit."""
    pool = ConnectionPool()
    try:
        yield pool
    finally:
        for connection in pool:
            connection.abort()
