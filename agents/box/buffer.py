"""The spool for asyncio: who awaits `append` has it on the disk when the await returns.

Callers that come while a group is on its way to the disk wait for the next one and share its flush, so that the
rate of appends is not bounded by the rate of flushes. Records are measured as they come, on the event loop's
thread. The spool's other calls run on one thread of their own (in the virtual world `run_in_executor` runs them in
line), and while that thread flushes, the event loop's makes the next group ready from what waits already. No task is
made for an append, only a future.

What follows an `await append(…)`, up to the next await, runs before the next group is begun. Marks that are updated
there are therefore complete whenever the spool calls for a snapshot, which it does on its own thread: `snapshot`
must be one step that the interpreter does not interrupt, such as encoding a dict with msgspec.
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
    Priority,
    Ready,
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
"""How long `close` waits for the disk."""

VERIFY_PAUSE_SECONDS: Final = 0.2
"""Between two segments verified in the background: a spool of 1 GiB is verified within a minute or two."""

P = ParamSpec("P")
T = TypeVar("T")

_Append = tuple[Records, asyncio.Future[range]]  # records, who waits
_PRIORITIES = tuple(Priority)  # ready made: an enumeration makes a generator each time it is gone through
_ONE = {priority: bytes((priority,)) for priority in _PRIORITIES}


class Buffer:
    """The asyncio front of one spool. Made and used on one running event loop.

    `executor` must run one call at a time; without one the buffer has a thread of its own.
    """

    def __init__(self, spool: Spool, executor: Executor | None = None) -> None:
        self._spool, self._limits = spool, spool.limits
        self._loop = asyncio.get_running_loop()
        self._owned = ThreadPoolExecutor(1, "spool") if executor is None else None
        self._executor = executor or self._owned
        self._queue: deque[_Append] = deque()
        self._next: tuple[int, Ready] | None = None  # the first so many of `_queue`, as a group
        self._looks_ahead = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._gaps_announced = spool.gaps_reported
        self.problem: SpoolError | None = None
        """Why the last records could not be kept; None if they were."""
        self.refusing = asyncio.Event()
        """Set while there is a `problem`."""
        self._listeners: list[Callable[[Priority, int], None]] = []
        self.arrived = {priority: asyncio.Event() for priority in Priority}
        self.delivered = dict.fromkeys(Priority, 0)
        """The number up to which records have been acknowledged since the spool was opened, by priority."""

    @property
    def limits(self) -> SpoolLimits:
        """See `Spool.limits`."""
        return self._limits

    @property
    def epoch(self) -> int:
        """See `Spool.epoch`."""
        return self._spool.epoch

    def append(self, priority: Priority, payload: bytes) -> asyncio.Future[range]:
        """Await the result to have the record durable; it is its number, as a range of one.

        A caller that gives up waiting does not take the record back. Errors as for `append_all`.
        """
        return self.append_all(_ONE[priority], (payload,))

    def append_all(self, priorities: Sequence[int], payloads: Sequence[bytes]) -> asyncio.Future[range]:
        """Await the result to have all records durable, all or none; it is their numbers.

        `priorities[i]` is the Priority of `payloads[i]`. Errors: SpoolError FULL or IO when awaited, with nothing
        kept; ValueError at once, beyond a limit of `SpoolLimits`.
        """
        if self._closed:
            raise RuntimeError("append after close")
        records = self._spool.measure(priorities, payloads)
        future: asyncio.Future[range] = self._loop.create_future()
        self._queue.append((records, future))
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._commit)  # after those who append in this turn of the loop
        elif self._owned is not None and not self._looks_ahead:
            self._looks_ahead = True
            self._loop.call_soon(self._look_ahead)
        return future

    def listen(self, arrived: Callable[[Priority, int], None]) -> Callable[[], None]:
        """Call `arrived(priority, records)` when records have become durable, until the result is called.

        `buffer.arrived[priority]` is the same as an event, for one listener, who clears it.
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

    async def give_up(self, priority: Priority, seq: int) -> None:
        """See `Spool.give_up`; the audit record that says so is durable on return. Errors: SpoolError."""
        await self._run(self._spool.give_up, priority, seq)
        await self.report_gaps()

    async def status(self) -> SpoolStatus:
        """See `Spool.status`."""
        return await self._run(self._spool.status)

    async def call(self, call: Callable[[], T]) -> T:
        """Make a blocking call that concerns the spool's disk, on the thread of the spool's own."""
        return await self._run(call)

    async def report_gaps(self) -> None:
        """Append the audit records of gaps that wait, without waiting for other records. Errors: SpoolError."""
        if (await self.status()).gaps_pending:
            await self._run(self._spool.append, b"", ())
            self._announce_gaps()

    async def verify(self) -> None:
        """Verify the segments that opening did not, and report what is lost. Raises SpoolError."""
        while await self._run(self._spool.verify_next):
            await self.report_gaps()
            await asyncio.sleep(VERIFY_PAUSE_SECONDS)

    async def close(self) -> None:
        """Let what has been appended reach the disk, leave the mark of a good end, and stop the thread.

        Errors: SpoolError IO if the disk does not answer within CLOSE_SECONDS_MAX; its call is then still under way.
        """
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await self._idle.wait()
                await self._run(self._spool.close)
        except TimeoutError:
            message = f"the disk has not answered for {CLOSE_SECONDS_MAX:g} s; unacknowledged reports will come again"
            raise SpoolError(SpoolErrorKind.IO, message) from None
        finally:
            if self._owned is not None:
                self._owned.shutdown(wait=False)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        return await self._loop.run_in_executor(self._executor, call, *args)

    # -- group commit -----------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Send off one group: all that waits, as far as the limits go."""
        group = [self._queue.popleft() for _ in range(self._fitting())]
        if self._next is not None and self._next[0] == len(group):
            ready = self._next[1]
        else:
            ready = self._spool.make_ready(merge([records for records, _ in group]))
        self._next, self._looks_ahead = None, False
        done = self._loop.run_in_executor(self._executor, self._spool.append_ready, ready)
        done.add_done_callback(partial(self._settle, group, ready.records.priorities))

    def _look_ahead(self) -> None:
        """Make the next group ready while the disk is busy, in the hope that nobody else joins it."""
        if self._queue:
            count = self._fitting()
            parts = [records for records, _ in islice(self._queue, count)]
            self._next = count, self._spool.make_ready(merge(parts))

    def _fitting(self) -> int:
        """How many of those who wait fit one group."""
        limits, count, size = self._limits, 0, 0
        for at, (records, _) in enumerate(self._queue):
            count += len(records.payloads)
            size += records.payload_bytes
            if count > limits.group_records_max or size > limits.group_bytes_max:
                return at
        return len(self._queue)

    def _settle(self, group: list[_Append], priorities: bytes, done: asyncio.Future[range]) -> None:
        """Tell those who wait, and then, after they have had their turn, begin the next group."""
        error = done.exception()
        self._remember(error)
        at = 0
        for records, waiter in group:
            count = len(records.payloads)
            if waiter.done():  # gave up
                pass
            elif error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(done.result()[at : at + count])
            at += count
        if error is None:
            self._announce(priorities)
        self._announce_gaps()
        if self._queue:
            self._loop.call_soon(self._commit)
        else:
            self._idle.set()

    def _remember(self, error: BaseException | None) -> None:
        if error is None and self.problem is not None:
            self.problem = None
            self.refusing.clear()
        elif isinstance(error, SpoolError):
            self.problem = error
            self.refusing.set()

    def _announce_gaps(self) -> None:
        """Records that nobody appended: what a group's way to the disk showed to be gone, or drove out."""
        news = self._spool.gaps_reported - self._gaps_announced
        if news:
            self._gaps_announced += news
            self._announce(_ONE[Priority.AUDIT] * news)

    def _announce(self, priorities: bytes) -> None:
        for priority in _PRIORITIES:
            if records := priorities.count(priority):
                self.arrived[priority].set()
                for arrived in list(self._listeners):
                    arrived(priority, records)
