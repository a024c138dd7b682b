"""The queue of calls for the store's thread: bounded, alerts first, without the calls of clients that disconnected.

While the database hangs, boxes abort their requests and repeat them on new connections. The call of each aborted
request would occupy memory for its batch and store it although no client waits for the result. Therefore the call of
a disconnected client is not executed, and is removed when the queue is full. If the calls of connected clients fill
the queue, further calls are refused.

A batch without routine records is urgent: it waits only for the call in progress and for other urgent batches. Urgent
batches may fill the whole queue, routine batches ROUTINE_SHARE of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

RECORDS_MAX: Final = 65_536
"""Maximum records in all waiting batches: some 64 MiB."""
ROUTINE_SHARE: Final = 0.9

T = TypeVar("T")


class QueueFullError(Exception):
    """The queue is full, so that the call is refused."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call that waits or is in progress."""

    records: int
    call: Callable[[], object]
    is_abandoned: Callable[[], bool]
    result: asyncio.Future[Any]


class StoreQueue:
    """Executes one call at a time on `executor`; None is the event loop's default executor."""

    def __init__(self, executor: Executor | None, records_max: int = RECORDS_MAX) -> None:
        self._executor, self._records_max = executor, records_max
        self._urgent: deque[_Call] = deque()
        self._routine: deque[_Call] = deque()
        self._records = 0
        self._is_busy = False

    def filling(self) -> tuple[int, int]:
        """Return the number of records that wait or are being stored, and its limit."""
        return self._records, self._records_max

    async def run(
        self, call: Callable[[], T], records: int, *, urgent: bool, is_abandoned: Callable[[], bool]
    ) -> T:
        """Queue `call`, which stores `records` records, and return its result.

        If `is_abandoned()` is true when its turn comes, the call is not executed, and the awaiting task is cancelled.

        Raises: QueueFullError; any exception of the call.
        """
        limit = self._records_max * (1 if urgent else ROUTINE_SHARE)
        if self._records and self._records + records > limit:
            self._drop_abandoned()
            if self._records and self._records + records > limit:
                raise QueueFullError(f"{self._records} records wait for the database")
        self._records += records
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._routine).append(_Call(records, call, is_abandoned, result))
        self._next()
        return await result

    def _drop_abandoned(self) -> None:
        for queue in (self._urgent, self._routine):
            for waiting in [waiting for waiting in queue if waiting.is_abandoned()]:
                queue.remove(waiting)
                self._settle(waiting)

    def _settle(self, waiting: _Call) -> None:
        self._records -= waiting.records
        waiting.result.cancel()  # unless it has its result

    def _next(self) -> None:
        """Start the next call, if none is in progress."""
        while not self._is_busy and (self._urgent or self._routine):
            waiting = (self._urgent or self._routine).popleft()
            if waiting.is_abandoned():
                self._settle(waiting)
                continue
            self._is_busy = True
            loop = asyncio.get_running_loop()
            done = loop.run_in_executor(self._executor, waiting.call)
            done.add_done_callback(partial(self._done, waiting))

    def _done(self, waiting: _Call, done: asyncio.Future[object]) -> None:
        self._is_busy = False
        if not waiting.result.done() and not done.cancelled():
            if (error := done.exception()) is not None:
                waiting.result.set_exception(error)
            else:
                waiting.result.set_result(done.result())
        self._settle(waiting)
        self._next()
