"""Reports failures in callbacks and tasks of an event loop with their tracebacks, never so many that they fill a log.

Whoever can send requests may find one that triggers a bug, and can send it again and again. Each kind of failure is
therefore reported a few times, then once in ten minutes with the number of those in between.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from wire.process.ratelimit import TokenBucket

REPORTS_BURST: Final = 5
REPORTS_PER_SECOND: Final = 1 / 600
"""For each kind of failure."""
KINDS_MAX: Final = 100
"""Kinds that are told apart; all others share one rate."""

_Kind = tuple[str, ...]


class FailureLog:
    """An exception handler for `loop.set_exception_handler`; what it lets through goes to the default one."""

    def __init__(self) -> None:
        self._rates: dict[_Kind, TokenBucket] = {}
        self._unreported: Counter[_Kind] = Counter()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report a failure, or count it."""
        kind = _kind(context)
        if kind not in self._rates and len(self._rates) >= KINDS_MAX:
            kind = ()
        rate = self._rates.setdefault(kind, TokenBucket(REPORTS_PER_SECOND, REPORTS_BURST))
        if rate.take(1, loop.time()):
            self._unreported[kind] += 1
            return
        if unreported := self._unreported.pop(kind, 0):
            message = f"{context.get('message')} ({unreported} more since the last report)"
            context = {**context, "message": message}
        loop.default_exception_handler(context)


def _kind(context: dict[str, Any]) -> _Kind:
    """The message, the type of the exception and the line that raised it; not what the exception says."""
    error = context.get("exception")
    traceback = getattr(error, "__traceback__", None)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""
    return str(context.get("message")), type(error).__name__, where
