"""Runs the conversations of RFB on a connection of asyncio."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol, TypeVar

from wire.desktop.rfb import Conversation

T = TypeVar("T")


class ByteChannel(Protocol):
    """A connection that carries bytes, such as TCP or a WebSocket."""

    async def read_exactly(self, length: int) -> bytes:
        """Return the next `length` bytes. Raises: EOFError at the end of the connection; OSError."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the buffer is full. Raises: OSError."""
        ...


class TcpChannel(NamedTuple):
    """A TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_exactly(self, length: int) -> bytes:
        """Return the next `length` bytes. Raises: EOFError (also in the middle of them); OSError."""
        return await self.reader.readexactly(length)

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the buffer is full. Raises: OSError."""
        self.writer.write(data)
        await self.writer.drain()


async def converse(channel: ByteChannel, conversation: Conversation[T]) -> T:
    """Run a conversation to its end, and return its result. Raises: RfbError; EOFError; OSError."""
    received = b""
    try:
        step = next(conversation)
        while True:
            if isinstance(step, bytes):
                await channel.write(step)
                received = b""
            else:
                received = await channel.read_exactly(step)
            step = conversation.send(received)
    except StopIteration as stop:
        result: T = stop.value
        return result
