"""Asyncio interface of the spool, with group commit: when `await append` returns, the record is durable.

Records appended while a group is being written form the next group and share its flush, so that the rate of appends
is not limited by the rate of flushes. Checksums are computed on the event loop's thread as records arrive. The other
calls of the spool run on a separate thread (in the virtual world `run_in_executor` runs them inline). While that
thread flushes, the event loop prepares the next group. An append creates a future but no task.

Code after an `await append(…)`, up to its next await, runs before the next group is written. High-water marks
that it updates are therefore complete when the spool calls `snapshot`. The call is made on the spool's thread, so
`snapshot` must be a single step that the interpreter does not interrupt, such as encoding a dict with msgspec.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final, ParamSpec, TypeVar

from agents.spool import (
    PreparedGroup,
    Priority,
    Record,
    Records,
    Spool,
    SpoolError,
    SpoolErrorKind,
    SpoolLimits,
    SpoolStatus,
    merge,
)

CLOSE_SECONDS_MAX: Final = 10.0
"""Limit of the time that `close` waits for the disk."""

VERIFY_PAUSE_SECONDS: Final = 0.2
"""Pause between two segments verified in the background: 1 GiB is verified within two minutes."""

P = ParamSpec("P")
T = TypeVar("T")

OnSettled = Callable[[range | BaseException], object]
_Append = tuple[
    Records, asyncio.Future[range], OnSettled | None
]  # records, their caller's future and callback
_PRIORITIES = tuple(Priority)  # iterating over a tuple is faster than over the enumeration
_ONE_BYTE = {priority: bytes((priority,)) for priority in _PRIORITIES}


class Buffer:
    """Asyncio interface of one spool. Created and used on one running event loop.

    `executor` must run one call at a time; without it the buffer starts a thread.
    """

    def __init__(self, spool: Spool, executor: Executor | None = None) -> None:
        self._spool, self._limits = spool, spool.limits
        self._loop = asyncio.get_running_loop()
        self._own_executor = ThreadPoolExecutor(1, "spool") if executor is None else None
        self._executor = executor or self._own_executor
        self._queue: deque[_Append] = deque()
        self._prepared: tuple[int, PreparedGroup] | None = None  # a group of the first n entries of `_queue`
        self._is_preparing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._gaps_announced = spool.gaps_reported
        self.problem: SpoolError | None = None
        """Why the last records could not be stored; None if they were."""
        self.refusing = asyncio.Event()
        """Set while there is a `problem`."""
        self._listeners: list[Callable[[Priority, int], None]] = []
        self.arrived = {priority: asyncio.Event() for priority in Priority}
        self.delivered = dict.fromkeys(Priority, 0)
        """By priority, the highest number acknowledged since the spool was opened."""

    @property
    def limits(self) -> SpoolLimits:
        """See `Spool.limits`."""
        return self._limits

    @property
    def epoch(self) -> int:
        """See `Spool.epoch`."""
        return self._spool.epoch

    def append(self, priority: Priority, payload: bytes) -> asyncio.Future[range]:
        """Append one record. Once it is durable, the future's result is a range with its number only.

        Cancelling the future does not remove the record. Raises: as `append_all`.
        """
        return self.append_all(_ONE_BYTE[priority], (payload,))

    def append_all(
        self, priorities: Sequence[int], payloads: Sequence[bytes], on_settled: OnSettled | None = None
    ) -> asyncio.Future[range]:
        """Append records, all or none. The future's result is their numbers, once all are durable.

        `priorities[i]` is the Priority of `payloads[i]`. `on_settled` is called with the result or the error just
        before the future is resolved, so that other futures can be resolved in the same step. Raises: SpoolError FULL
        or IO when awaited, with nothing stored; ValueError immediately, beyond a limit of `SpoolLimits`.
        """
        if self._closed:
            raise RuntimeError("append after close")
        records = self._spool.measure(priorities, payloads)
        future: asyncio.Future[range] = self._loop.create_future()
        self._queue.append((records, future, on_settled))
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._commit)  # after all appends of this iteration of the event loop
        elif self._own_executor is not None and not self._is_preparing:
            self._is_preparing = True
            self._loop.call_soon(self._prepare_next)
        return future

    def listen(self, arrived: Callable[[Priority, int], None]) -> Callable[[], None]:
        """Call `arrived(priority, records)` when records have become durable; the result unsubscribes.

        For a single listener, `buffer.arrived[priority]` is an event that is set then; the listener clears it.
        """
        self._listeners.append(arrived)
        return partial(self._listeners.remove, arrived)

    async def read(
        self, priority: Priority, records_max: int, bytes_max: int, after_seq: int = 0
    ) -> list[Record]:
        """See `Spool.read`."""
        return await self._run(self._spool.read, priority, records_max, bytes_max, after_seq)

    async def ack(self, priority: Priority, through_seq: int) -> None:
        """See `Spool.ack`."""
        await self._run(self._spool.ack, priority, through_seq)
        self.delivered[priority] = max(self.delivered[priority], through_seq)

    async def discard(self, priority: Priority, seq: int) -> None:
        """See `Spool.discard`; its gap record is durable on return. Raises: SpoolError."""
        await self._run(self._spool.discard, priority, seq)
        await self.report_gaps()

    async def status(self) -> SpoolStatus:
        """See `Spool.status`."""
        return await self._run(self._spool.status)

    async def call(self, call: Callable[[], T]) -> T:
        """Make a blocking call concerning the spool's disk on the spool's thread."""
        return await self._run(call)

    async def report_gaps(self) -> None:
        """Append gap records for pending gaps now, without waiting for other records. Raises: SpoolError."""
        if (await self.status()).gaps_pending:
            await self._run(self._spool.append, b"", ())
            self._announce_gaps()

    async def verify(self) -> None:
        """Verify the segments that opening did not read, and report losses. Raises: SpoolError."""
        while await self._run(self._spool.verify_next):
            await self.report_gaps()
            await asyncio.sleep(VERIFY_PAUSE_SECONDS)

    async def close(self) -> None:
        """Write all appended records and the clean-close marker, and stop the thread.

        Raises: SpoolError IO if the disk call does not return within CLOSE_SECONDS_MAX, and continues to run.
        """
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await self._idle.wait()
                await self._run(self._spool.close)
        except TimeoutError:
            message = f"the disk has not responded for {CLOSE_SECONDS_MAX:g} s; instruments will repeat their reports"
            raise SpoolError(SpoolErrorKind.IO, message) from None
        finally:
            if self._own_executor is not None:
                self._own_executor.shutdown(wait=False)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        return await self._loop.run_in_executor(self._executor, call, *args)

    # -- group commit -----------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Write one group: all queued records, up to the limits of a group."""
        group = [self._queue.popleft() for _ in range(self._group_size())]
        if self._prepared is not None and self._prepared[0] == len(group):
            ready = self._prepared[1]
        else:
            ready = self._spool.prepare_group(merge([records for records, *_ in group]))
        self._prepared, self._is_preparing = None, False
        done = self._loop.run_in_executor(self._executor, self._spool.append_prepared, ready)
        done.add_done_callback(partial(self._finish_group, group, ready.records.priorities))

    def _prepare_next(self) -> None:
        """Prepare the next group while the disk is busy; it is discarded if more records join the group."""
        if self._queue:
            count = self._group_size()
            parts = [records for records, *_ in islice(self._queue, count)]
            self._prepared = count, self._spool.prepare_group(merge(parts))

    def _group_size(self) -> int:
        """Return the number of queued appends that fit into one group."""
        limits, count, size = self._limits, 0, 0
        for index, (records, *_) in enumerate(self._queue):
            count += len(records.payloads)
            size += records.payload_bytes
            if count > limits.group_records_max or size > limits.group_bytes_max:
                return index
        return len(self._queue)

    def _finish_group(self, group: list[_Append], priorities: bytes, done: asyncio.Future[range]) -> None:
        """Resolve the futures of a group; begin the next group after their callers have run."""
        error = done.exception()
        self._set_problem(error)
        offset = 0
        for records, waiter, on_settled in group:
            count = len(records.payloads)
            if on_settled is not None:
                on_settled(error or done.result()[offset : offset + count])
            if waiter.done():  # cancelled
                pass
            elif error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(done.result()[offset : offset + count])
            offset += count
        if error is None:
            self._announce(priorities)
        self._announce_gaps()
        if self._queue:
            self._loop.call_soon(self._commit)
        else:
            self._idle.set()

    def _set_problem(self, error: BaseException | None) -> None:
        if error is None and self.problem is not None:
            self.problem = None
            self.refusing.clear()
        elif isinstance(error, SpoolError):
            self.problem = error
            self.refusing.set()

    def _announce_gaps(self) -> None:
        """Announce gap records, which the spool appended itself."""
        new_gaps = self._spool.gaps_reported - self._gaps_announced
        if new_gaps:
            self._gaps_announced += new_gaps
            self._announce(_ONE_BYTE[Priority.AUDIT] * new_gaps)

    def _announce(self, priorities: bytes) -> None:
        for priority in _PRIORITIES:
            if records := priorities.count(priority):
                self.arrived[priority].set()
                for arrived in list(self._listeners):
                    arrived(priority, records)
