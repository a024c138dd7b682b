"""Database calls of coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def call_database(executor: Executor | None, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Call a function on `executor`; None is the event loop's default one.

    A cancellation waits for the end of the call, so that the database can be closed afterwards.
    """
    call = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise
