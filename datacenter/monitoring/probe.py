"""Calls of the database for monitoring: one at a time, with a time limit, so that they do not accumulate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Generic, TypeVar

T = TypeVar("T")
ANSWER_SECONDS_MAX: Final = 2.0
"""Maximum time for which a caller waits for the database."""


class NoAnswerError(Exception):
    """The database has not answered in time."""


class CachedProbe(Generic[T]):
    """Calls `function` on `executor` on request, and keeps the result for `keep_s` seconds."""

    def __init__(self, executor: Executor, function: Callable[[], T], keep_s: float) -> None:
        self._executor, self._function, self._keep_s = executor, function, keep_s
        self._call: asyncio.Future[T] | None = None
        self._called_at = 0.0

    @property
    def latest(self) -> T | None:
        """The result of the latest call; None if it failed or has not returned."""
        call = self._call
        return call.result() if call is not None and call.done() and call.exception() is None else None

    async def result(self) -> T:
        """Return the latest result, or the result of a new call.

        Raises: NoAnswerError; the exceptions of `function`.
        """
        loop = asyncio.get_running_loop()
        is_old = loop.time() - self._called_at >= self._keep_s
        if self._call is None or (self._call.done() and is_old):
            self._called_at = loop.time()
            self._call = loop.run_in_executor(self._executor, self._function)
        done, _ = await asyncio.wait([self._call], timeout=ANSWER_SECONDS_MAX)
        if not done:
            raise NoAnswerError(f"the database has not answered for {ANSWER_SECONDS_MAX:g} s")
        return self._call.result()
