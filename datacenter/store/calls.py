"""Database calls of coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar, TypeVarTuple

PAUSE_SECONDS: Final = 0.15
"""Minimum pause between pieces of background work: a thread that waits for SQLite's write lock tries every 0.1 s."""
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def call_database(executor: Executor | None, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Call a function on `executor`; None is the event loop's default executor.

    A cancellation waits for the end of the call, so that the database can be closed afterwards.
    """
    call = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


async def call_in_background(executor: Executor | None, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Call a function as `call_database` does, then pause for as long as the call took.

    Therefore background work holds SQLite's write lock for at most half of the time, however slow the machine is.
    """
    now = asyncio.get_running_loop().time
    began = now()
    result = await call_database(executor, function, *arguments)
    await asyncio.sleep(max(PAUSE_SECONDS, now() - began))
    return result
