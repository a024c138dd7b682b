from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(holds: Callable[[], bool]) -> None:
    """Let the loop run until it holds."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)
