"""One connection to the data center: batches out, answers in, and only then the acknowledgement to the buffer.

Requests are pipelined (RFC 9112, 9.3.2), so answers come in the order of the batches. Whatever goes wrong (an answer
that is late, not 200 or not a `BatchReply`) ends the stream. Nothing is repeated here: the next stream begins with
what the buffer still has unacknowledged, under the same sequence numbers, and the data center keeps each once.

One loop does everything: settle what is answered, send what may go, wait. All that can happen in between (records,
answers, the connection's end, a time reached) sets the same event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final

from agents.backoff import retry_after
from agents.batching import BATCH_RAW_BYTES_MAX, Pace, may_send
from agents.buffer import Buffer
from agents.spool import Priority, Record
from wire.compression import Compressor
from wire.http import ClientConnection, HttpError, Response
from wire.messages import RECORDS_PER_BATCH_MAX, BatchReply, MessageError, decode, encode_batch

PATH: Final = "/v1/batches"
REPLY_SECONDS: Final = 20.0
"""How long an answer may take, beyond the time the batch needs on the slowest link."""
LINK_BYTES_PER_SECOND_MIN: Final = 2048
LINGER_SECONDS: Final = 30.0
HEARTBEAT_SECONDS: Final = 300.0


class StreamEnd(StrEnum):
    """Why a stream ended."""

    IDLE = "idle"  # closed with nothing in flight
    LOST = "lost"  # closed with something in flight
    LATE = "late"  # no answer in time
    REFUSED = "refused"  # an answer other than 200
    NONSENSE = "nonsense"  # an answer that is not one


class StreamError(Exception):
    """The stream's end; with REFUSED also the status, and the seconds that the far end wants to be left alone."""

    def __init__(self, kind: StreamEnd, message: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Timing:
    """When records leave that could wait, in seconds."""

    linger_s: float = LINGER_SECONDS
    """Routine records wait so long for company."""
    heartbeat_s: float = HEARTBEAT_SECONDS
    """After so long without a batch `heartbeat` is called, so that the far end knows, and can give commands."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch in flight. `through` is the last sequence number of each priority in it."""

    answer: asyncio.Future[Response]
    through: dict[Priority, int]
    records: int
    body_bytes: int
    at: float

    @property
    def has_routine(self) -> bool:
        return Priority.ROUTINE in self.through


class Stream:
    """Forwards the buffer's records over `connection` until it ends, which `run` says with a StreamError."""

    def __init__(
        self,
        connection: ClientConnection,
        buffer: Buffer,
        pace: Pace,
        timing: Timing,
        *,
        heartbeat: Callable[[], object],
        settled: Callable[[int, BatchReply], Awaitable[None]],
    ) -> None:
        """`settled(records, reply)` is called after a batch's records have been acknowledged."""
        self._connection, self._buffer, self._pace, self._timing = connection, buffer, pace, timing
        self._heartbeat, self._settled = heartbeat, settled
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._compressor = Compressor()
        self._in_flight: deque[_Sent] = deque()
        self._read_through = dict.fromkeys(Priority, 0)
        self._urgent = True  # alerts or audit records may wait
        self._routine = 0  # routine records that wait, as far as is known
        self._routine_due_at = -inf
        self._sent_at = self._answered_at = self._loop.time()

    async def run(self) -> None:
        """Forward until the stream's end. Errors: StreamError always; SpoolError when the disk is gone."""
        stop = self._buffer.listen(self._arrived)
        self._connection.lost.add_done_callback(self._happened)
        try:
            await self._count_routine()
            while True:
                self._wake.clear()
                await self._settle_answered()
                if self._connection.transport is None:
                    raise StreamError(StreamEnd.IDLE, "the connection was closed")
                if not await self._send():
                    await self._wait()
        finally:
            stop()
            self._connection.abort()

    # -- what happens meanwhile -------------------------------------------------------------------------

    def _arrived(self, priority: Priority, records: int) -> None:
        if priority != Priority.ROUTINE:
            self._urgent = True
            self._wake.set()
            return
        if self._routine == 0:
            self._routine_due_at = self._loop.time() + self._timing.linger_s
            self._wake.set()
        self._routine += records
        if may_send(**self._waiting())[1]:
            self._wake.set()

    def _happened(self, _future: asyncio.Future[None]) -> None:
        self._wake.set()

    def _answered(self, answer: asyncio.Future[Response]) -> None:
        if not answer.cancelled():
            answer.exception()  # has been seen, even if nobody will settle this batch
        self._wake.set()

    async def _wait(self) -> None:
        """Until something happens, or the next thing is due."""
        due = self._sent_at + self._timing.heartbeat_s
        if self._routine and not self._in_flight_routine():
            due = min(due, self._routine_due_at)
        if self._in_flight:
            due = min(due, self._answer_due_at())
        timer = self._loop.call_at(due, self._wake.set)
        await self._wake.wait()
        timer.cancel()
        now = self._loop.time()
        if self._in_flight and now >= self._answer_due_at() and not self._in_flight[0].answer.done():
            raise StreamError(StreamEnd.LATE, "the data center does not answer")
        if now >= self._sent_at + self._timing.heartbeat_s:
            self._sent_at = now
            self._heartbeat()

    def _answer_due_at(self) -> float:
        first = self._in_flight[0]
        return max(first.at, self._answered_at) + REPLY_SECONDS + first.body_bytes / LINK_BYTES_PER_SECOND_MIN

    # -- sending ----------------------------------------------------------------------------------------

    def _in_flight_routine(self) -> int:
        return sum(sent.has_routine for sent in self._in_flight)

    def _waiting(self) -> dict[str, int]:
        routine_in_flight = self._in_flight_routine()
        return {
            "urgent": self._urgent,
            "urgent_in_flight": len(self._in_flight) - routine_in_flight,
            "routine": self._routine,
            "routine_is_due": self._loop.time() >= self._routine_due_at,
            "routine_in_flight": routine_in_flight,
        }

    async def _send(self) -> bool:
        """Send the next batch, if one may go now."""
        urgent, routine = may_send(**self._waiting())
        records: list[Record] = []
        through: dict[Priority, int] = {}
        if urgent:
            self._urgent = False
            for priority in (Priority.ALERT, Priority.AUDIT):
                await self._read(priority, records, through)
            self._urgent = self._urgent or len(records) >= self._pace.records_max
        if routine:
            await self._read_routine(records, through)
        if records:
            self._post(sorted(records), through)
        return bool(records)

    async def _read_routine(self, records: list[Record], through: dict[Priority, int]) -> None:
        before = len(records)
        read = await self._read(Priority.ROUTINE, records, through)
        self._routine = max(0, self._routine - read)
        self._routine_due_at = -inf if self._routine else inf
