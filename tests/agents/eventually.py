from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(holds: Callable[[], bool]) -> None:
    """Let the loop run until it holds."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  what holds tells nobody
            await asyncio.sleep(0.001)
