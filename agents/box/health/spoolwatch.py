"""Background tasks of the spool: verifying segments that opening did not read, and measuring the fill level."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agents.box.buffer import Buffer
from agents.box.health.bounds import SpoolRoom
from wire.process.bounds import Bounds

FILL_CHECK_SECONDS: Final = 600.0
"""Interval of checks. At usual rates even the smallest spool takes longer than this to fill."""

DiskSpace = Callable[[], tuple[int, int]]
"""Returns the used and total bytes of the spool's file system; a blocking call. Raises OSError."""


async def watch_spool(buffer: Buffer, bounds: Bounds, disk_space: DiskSpace | None = None) -> None:
    """Verify the spool, then measure it periodically until cancelled. Adds the fill levels to `bounds`.

    Raises: SpoolError if the disk has been removed.
    """
    room = SpoolRoom()
    bounds.add(*room.bounds)
    try:
        await buffer.verify()
        while True:
            room.spool = await buffer.status()
            if disk_space is not None:
                with suppress(OSError):  # the spool itself reports disk failures
                    room.disk = await buffer.call(disk_space)
            bounds.check()
            await asyncio.sleep(FILL_CHECK_SECONDS)
    finally:
        for bound in room.bounds:
            bounds.remove(bound)
