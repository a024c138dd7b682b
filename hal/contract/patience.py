"""Waiting for what a device does in its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SECONDS_MAX = 5.0
"""Only a check that fails waits so long."""
_TURN_SECONDS = 0.002


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; it is a failure of the check when it never does."""
    for _ in range(int(SECONDS_MAX / _TURN_SECONDS)):
        if condition():
            return
        await asyncio.sleep(_TURN_SECONDS)
    raise AssertionError("what the check waits for never came")
