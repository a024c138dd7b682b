"""Limits a desktop's sending rate to the session's share of the uplink, so that alerts and reports overtake it."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from wire.desktop.connection import ByteChannel

WRITE_BYTES_MAX: Final = 1200
"""Maximum size of a write, so that other traffic waits for at most one packet."""
SHORT_BYTES: Final = 520
"""A shorter write is accounted as this many bytes. They cover the headers of TCP and of the tunnel, and leave
bandwidth for reports and alerts; otherwise these would build up a queue that delays the response to a key."""
PAUSE_SECONDS_MAX: Final = 0.02
"""Up to this much unused time is made up later: the sender pauses while it encodes the next message."""


class LinePace:
    """Rate limiter of one session. All connections of the session share the rate."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at = -math.inf
        """Time of the event loop in s at which everything written so far is sent at the session's rate."""
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()

    async def free(self) -> None:
        """Wait until everything written so far is sent at the session's rate."""
        await asyncio.sleep(self._free_at - self._loop.time())

    async def write(self, channel: ByteChannel, data: bytes) -> None:
        """Write `data` at the session's rate. Raises: OSError."""
        for offset in range(0, len(data), WRITE_BYTES_MAX):
            part = data[offset : offset + WRITE_BYTES_MAX]
            async with self._turn:
                await self.free()
                await channel.write(part)
                sent = max(len(part), SHORT_BYTES) / self._rate
                self._free_at = max(self._free_at, self._loop.time() - PAUSE_SECONDS_MAX) + sent
