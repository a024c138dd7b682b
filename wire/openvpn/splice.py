"""Forwards the bytes of two connections to each other, without a queue."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

UNSENT_BYTES: Final = 4096
"""TCP_NOTSENT_LOWAT: bytes that the kernel buffers in addition to those in flight.

A longer queue would only delay later data.
"""


class Side(asyncio.Protocol):
    """One of two connections. Each waits for the other, and ends with it."""

    def __init__(self, lost: Callable[[], object] = lambda: None) -> None:
        """`lost` is called when this connection has ended."""
        self._lost, self._other = lost, self
        self._transport: asyncio.Transport | None = None
        self._early = b""

    def join(self, other: Side) -> None:
        """Forward data in both directions between this connection and `other`; call it when both are connected."""
        self._other, other._other = other, self
        for side in (self, other):
            if side._transport is None or side._transport.is_closing():
                self.close()
                other.close()
                return
        for side in (self, other):
            assert side._transport is not None
            early, side._early = side._early, b""
            side._other._write(early)
            side._transport.resume_reading()

    def close(self) -> None:
        """End both connections immediately; unsent data is discarded."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        transport.pause_reading()
        connection = transport.get_extra_info("socket")  # None in the virtual world
        if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._other is self:
            self._early += data  # data that arrived with the last bytes of a proxy's handshake
        else:
            self._other._write(data)

    def pause_writing(self) -> None:
        if self._other._transport is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other._transport is not None and not self._other._transport.is_closing():
            self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._other is not self:
            self._other.close()
        self._lost()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)
