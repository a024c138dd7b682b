"""Waiting for asynchronous effects of a device, with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SECONDS_MAX = 5.0
"""Time limit, which only a failing check reaches."""
_POLL_SECONDS = 0.002


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` is true. Raises: AssertionError after `SECONDS_MAX`."""
    for _ in range(int(SECONDS_MAX / _POLL_SECONDS)):
        if condition():
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise AssertionError(f"the condition was still false after {SECONDS_MAX} s")
