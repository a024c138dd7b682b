"""Connections of a hostile program: it reads them or not, and writes what it likes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sim.hostile import Access
from wire.process.transports import abort

CONNECT_SECONDS_MAX: Final = 5.0
"""How long an attempt to connect takes at most: a firewall may drop it."""


class Line(asyncio.Protocol):
    """One connection. It ignores what it receives; `is_open` until it is lost."""

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
        """Take nothing from the connection any more."""
        if self._transport is not None and self.is_open:
            self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Send data unless the connection is lost, or what was sent before has not left yet."""
        if self._transport is not None and self.is_open and self._writable:
            self._transport.write(data)

    async def send(self, data: bytes) -> None:
        """Send data when what was sent before has left, or return when the connection is lost."""
        if not self._writable and self.is_open:
            await self._changed.wait()
        self.write(data)

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            abort(self._transport)


async def connect(access: Access, *, secured: bool = True) -> Line | None:
    """A connection to the box, its TLS handshake finished if `secured`; None if there is none to be had."""
    loop, tls = asyncio.get_running_loop(), access.tls if secured else None
    made: list[Line] = []

    def make() -> Line:
        made.append(Line())
        return made[-1]

    with suppress(OSError, ssl.SSLError):
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            _, line = await loop.create_connection(
                make,
                access.box.address,
                access.box.port,
                ssl=tls,
                server_hostname=access.box.host if secured else None,
            )
            return line
    for line in made:
        line.abort()
    return None


class Lines:
    """The open connections of a program, oldest first."""

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def __iter__(self) -> Iterator[Line]:
        self._lines = [line for line in self._lines if line.is_open]
        return iter(self._lines)

    def __len__(self) -> int:
        return sum(line.is_open for line in self._lines)

    def add(self, line: Line) -> None:
        """Keep a connection."""
        self._lines.append(line)


@contextmanager
def lines() -> Iterator[Lines]:
    """Lines that are all reset at the end."""
    opened = Lines()
    try:
        yield opened
    finally:
        for line in opened:
            line.abort()
