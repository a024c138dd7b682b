"""Sends at the session's share of the line, in small writes, so that alerts and reports overtake it."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from wire.desktop.connection import ByteChannel

WRITE_BYTES_MAX: Final = 1200
"""Longest single write: other traffic waits for one packet at most."""
SHORT_BYTES: Final = 520
"""A shorter write counts as so many bytes: headers of TCP and of the tunnel, and room for reports and alerts, which
would otherwise let a queue grow before the short messages that follow a key."""
PAUSE_SECONDS_MAX: Final = 0.02
"""The line's rate is caught up after pauses of at most this length, in which the next message was encoded."""


class LinePace:
    """The line of one session. Its connections share the rate."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at = -math.inf
        """Time of the event loop at which the line will have sent everything at the session's rate, in s."""
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()

    async def free(self) -> None:
        """Wait until the line has sent what was written."""
        await asyncio.sleep(self._free_at - self._loop.time())

    async def write(self, line: ByteChannel, data: bytes) -> None:
        """Write at the rate of the session. Raises: OSError."""
        for place in range(0, len(data), WRITE_BYTES_MAX):
            part = data[place : place + WRITE_BYTES_MAX]
            async with self._turn:
                await self.free()
                await line.write(part)
                sent = max(len(part), SHORT_BYTES) / self._rate
                self._free_at = max(self._free_at, self._loop.time() - PAUSE_SECONDS_MAX) + sent
