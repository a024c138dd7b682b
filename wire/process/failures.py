"""Logs exceptions of event loop callbacks and tasks with tracebacks, at a bounded rate.

A client that finds a request which triggers a bug can repeat it any number of times. Each kind of failure is
therefore logged a few times, then once in ten minutes with the number of unlogged failures.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from wire.process.ratelimit import TokenBucket
from wire.process.transports import is_second_loss

REPORTS_BURST: Final = 5
REPORTS_PER_SECOND: Final = 1 / 600
"""For each kind of failure."""
KINDS_MAX: Final = 100
"""Kinds with a separate rate limit; all others share one."""

_Kind = tuple[str, ...]


class FailureLog:
    """An exception handler for `loop.set_exception_handler`; forwards failures to the default handler."""

    def __init__(self) -> None:
        self._rates: dict[_Kind, TokenBucket] = {}
        self._unreported: Counter[_Kind] = Counter()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a failure, or only count it."""
        if is_second_loss(context):
            return
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
    """Return the kind of a failure: message, type of the exception, and the line that raised it."""
    error = context.get("exception")
    traceback = getattr(error, "__traceback__", None)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    location = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""
    return str(context.get("message")), type(error).__name__, location
