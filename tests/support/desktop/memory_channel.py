"""Connections in memory, for event loops without sockets."""

from __future__ import annotations

import asyncio


class MemoryChannel:
    """One end of a connection in memory. `writes` has the time and the bytes of each write of this end."""

    def __init__(self, receives: asyncio.StreamReader, sends: asyncio.StreamReader) -> None:
        self.writes: list[tuple[float, bytes]] = []
        self._receives, self._sends = receives, sends

    @classmethod
    def pair(cls) -> tuple[MemoryChannel, MemoryChannel]:
        there, back = asyncio.StreamReader(), asyncio.StreamReader()
        return cls(back, there), cls(there, back)

    async def read_exactly(self, length: int) -> bytes:
        return await self._receives.readexactly(length)

    async def write(self, data: bytes) -> None:
        self.put(data)

    def put(self, data: bytes) -> None:
        self.writes.append((asyncio.get_running_loop().time(), bytes(data)))
        self._sends.feed_data(data)
