"""Waiting for a condition, with a time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Final

WAIT_SECONDS_MAX: Final = 240.0
"""The usual time limit of a wait: a guard against hanging on a busy machine, never a performance target."""
POLL_SECONDS: Final = 0.002


async def eventually(
    holds: Callable[..., bool | Awaitable[bool]],
    seconds_max: float | None = WAIT_SECONDS_MAX,
    *,
    every_s: float = POLL_SECONDS,
) -> None:
    """Let the event loop run until `holds()` is true, which is checked every `every_s` seconds.

    The type of `holds` permits lambdas that bind loop variables as default arguments.
    Raises: TimeoutError after `seconds_max` seconds; with None, the caller must limit the time.
    """
    async with asyncio.timeout(seconds_max):
        while True:
            result = holds()
            if await result if isawaitable(result) else result:
                return
            await asyncio.sleep(every_s)


def poll_until(
    holds: Callable[..., bool], seconds_max: float = WAIT_SECONDS_MAX, *, every_s: float = POLL_SECONDS
) -> None:
    """Block until `holds()` is true, checked every `every_s` seconds. Raises: TimeoutError after `seconds_max`."""
    ends_at = time.monotonic() + seconds_max
    while not holds():
        if time.monotonic() > ends_at:
            raise TimeoutError(f"the condition did not become true within {seconds_max:g} s")
        time.sleep(every_s)
