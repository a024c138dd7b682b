"""The queue of batches for the store's thread: bounded, urgent batches first, without those of disconnected clients.

While the store is busy with a transaction, further batches wait. These are stored together in the next transaction,
because a commit waits for the disk, regardless of its number of batches.

While the database hangs, boxes abort their requests and repeat them on new connections. The batch of each aborted
request would occupy memory, and would be stored although no client waits for the result. Therefore the batch of a
disconnected client is not stored, and is removed when the queue is full. If the batches of connected clients fill the
queue, further ones are refused.

A batch without routine records is urgent: it waits only for the transaction in progress and for other urgent batches.
Urgent batches may fill the whole queue, routine batches ROUTINE_SHARE of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from datacenter.store.batches.batch import Received
from datacenter.store.calls import call_database
from datacenter.store.store import Store
from wire.messages import BatchReply

RECORDS_MAX: Final = 65_536
"""Maximum number of records in all waiting batches: about 64 MiB."""
ROUTINE_SHARE: Final = 0.9
TOGETHER_RECORDS_MAX: Final = 4096
"""Maximum number of records that are stored together, unless a single batch has more; this takes about 0.1 s."""


class QueueFullError(Exception):
    """The batch is refused because the queue is full."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch that waits or is being stored."""

    received: Received
    is_abandoned: Callable[[], bool]
    result: asyncio.Future[BatchReply]

    @property
    def records(self) -> int:
        return len(self.received.batch.records)


class IngestQueue(Protocol):
    """The receiver of the ingest's batches: a `StoreQueue`, or several."""

    def filling(self) -> tuple[int, int]:
        """Return the number of records that wait or are being stored, and its limit."""
        ...

    async def run(self, received: Received, *, urgent: bool, is_abandoned: Callable[[], bool]) -> BatchReply:
        """See `StoreQueue.run`."""
        ...


class StoreQueue:
    """Calls `store_all` with one list of batches at a time on `executor`; None is the event loop's default executor.

    `stored` is called with the boxes whose batches were stored, in the event loop.

    `store_all` returns for each batch its reply or an exception, as `datacenter.store.store.Store.ingest_all` does.
    """

    def __init__(
        self,
        executor: Executor | None,
        store_all: Callable[[list[Received]], Sequence[BatchReply | Exception]],
        records_max: int = RECORDS_MAX,
        stored: Callable[[set[str]], None] = lambda _: None,
    ) -> None:
        self._executor, self._store_all, self._records_max = executor, store_all, records_max
        self._stored = stored
        self._urgent: deque[_Waiting] = deque()
        self._routine: deque[_Waiting] = deque()
        self._records = 0
        self._is_busy = False

    def filling(self) -> tuple[int, int]:
        """Return the number of records that wait or are being stored, and its limit."""
        return self._records, self._records_max

    async def run(self, received: Received, *, urgent: bool, is_abandoned: Callable[[], bool]) -> BatchReply:
        """Queue a batch, wait until it is stored, and return the reply.

        If `is_abandoned()` is true when its turn comes, it is not stored, and the awaiting task is cancelled.

        Raises: QueueFullError; any exception of `store_all`.
        """
        records = len(received.batch.records)
        limit = self._records_max * (1 if urgent else ROUTINE_SHARE)
        if self._records and self._records + records > limit:
            self._drop_abandoned()
            if self._records and self._records + records > limit:
                raise QueueFullError(f"{self._records} records wait for the database")
        self._records += records
        result: asyncio.Future[BatchReply] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._routine).append(_Waiting(received, is_abandoned, result))
        self._next()
        return await result

    def _drop_abandoned(self) -> None:
        for queue in (self._urgent, self._routine):
            for waiting in [waiting for waiting in queue if waiting.is_abandoned()]:
                queue.remove(waiting)
                self._settle(waiting)

    def _settle(self, waiting: _Waiting) -> None:
        self._records -= waiting.records
        waiting.result.cancel()  # unless the result is already set

    def _next(self) -> None:
        """Store the next batches, if the store is not busy."""
        if self._is_busy or not (together := self._take()):
            return
        self._is_busy = True
        received = [waiting.received for waiting in together]
        done = asyncio.get_running_loop().run_in_executor(self._executor, self._store_all, received)
        done.add_done_callback(partial(self._done, together))

    def _take(self) -> list[_Waiting]:
        """Remove the next entries to be stored from the queue."""
        for queue in (self._urgent, self._routine):
            together: list[_Waiting] = []
            records = 0
            while queue and (not together or records + queue[0].records <= TOGETHER_RECORDS_MAX):
                waiting = queue.popleft()
                if waiting.is_abandoned():
                    self._settle(waiting)
                else:
                    together.append(waiting)
                    records += waiting.records
            if together:
                return together
        return []

    def _done(self, together: list[_Waiting], done: asyncio.Future[Sequence[BatchReply | Exception]]) -> None:
        self._is_busy = False
        if done.cancelled():
            outcomes: Sequence[BatchReply | BaseException] = [asyncio.CancelledError()] * len(together)
        elif (error := done.exception()) is not None:
            outcomes = [error] * len(together)
        else:
            outcomes = done.result()
        self._stored(
            {
                waiting.received.box
                for waiting, outcome in zip(together, outcomes, strict=True)
                if isinstance(outcome, BatchReply)
            }
        )
        for waiting, outcome in zip(together, outcomes, strict=True):
            if not waiting.result.done():
                if isinstance(outcome, BatchReply):
                    waiting.result.set_result(outcome)
                elif not isinstance(outcome, asyncio.CancelledError):
                    waiting.result.set_exception(outcome)
            self._settle(waiting)
        self._next()


class RoutedQueue:
    """A queue for each database, so that a hanging database does not delay the batches of the others.

    `find` returns the store with the reports of a box; it blocks, and is called once for each box.
    """

    def __init__(self, find: Callable[[str], Store], queues: Mapping[Store, StoreQueue]) -> None:
        self._find, self._queues = find, queues
        self._known: dict[str, StoreQueue] = {}

    def filling(self) -> tuple[int, int]:
        """Return the number of waiting records in the fullest queue, including those being stored, and its limit."""
        return max(queue.filling() for queue in self._queues.values())

    async def run(self, received: Received, *, urgent: bool, is_abandoned: Callable[[], bool]) -> BatchReply:
        """Do the same as `StoreQueue.run` in the queue of the box."""
        queue = self._known.get(received.box)
        if queue is None:
            queue = self._queues[await call_database(None, self._find, received.box)]
            self._known[received.box] = queue
        return await queue.run(received, urgent=urgent, is_abandoned=is_abandoned)
