"""Waiting for what a device does in its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_TURN_SECONDS = 0.002
_TURNS_MAX = 2500  # five seconds: only a check that fails waits so long


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; it is a failure of the check when it never does."""
    for _ in range(_TURNS_MAX):
        if condition():
            return
        await asyncio.sleep(_TURN_SECONDS)
    raise AssertionError("what the check waits for never came")
