"""Watching the spool while the box runs: verifying what opening did not read, and its fill level."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agents.box.buffer import Buffer
from agents.box.health.bounds import SpoolRoom
from wire.process.bounds import Bounds

FILL_CHECK_SECONDS: Final = 600.0
"""The largest permitted spool takes hours to fill, the smallest at least one of these intervals at usual rates."""

DiskSpace = Callable[[], tuple[int, int]]
"""Used and total bytes of the spool's file system; blocks. Raises OSError."""


async def watch_spool(buffer: Buffer, bounds: Bounds, disk_space: DiskSpace | None = None) -> None:
    """Run until cancelled. Adds to `bounds` how full the spool and its file system are.

    Raises SpoolError if the disk is gone.
    """
    room = SpoolRoom()
    bounds.add(*room.bounds)
    try:
        await buffer.verify()
        while True:
            room.spool = await buffer.status()
            if disk_space is not None:
                with suppress(OSError):  # the spool itself reports a disk that fails
                    room.disk = await buffer.call(disk_space)
            bounds.look()
            await asyncio.sleep(FILL_CHECK_SECONDS)
    finally:
        for bound in room.bounds:
            bounds.remove(bound)
