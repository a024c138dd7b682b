"""One connection to the data center: sends batches, and acknowledges records to the buffer after the response.

Requests are pipelined (RFC 9112, 9.3.2), so responses arrive in the order of the batches. Any error (a response that
is late, not 200 or not a `BatchReply`) ends the stream. A stream repeats nothing: the next one begins with the
unacknowledged records of the buffer, under the same sequence numbers, and the data center stores each once. If the
response names a record of the batch that the data center rejects, the error contains it.

A response may take REPLY_SECONDS, extended for a data center that has been slow (`LinkEstimator.reply_timeout`).
While a response is overdue, an empty line, which HTTP ignores before a request (RFC 9112, 2.2), is sent periodically.
Intermediaries that close idle connections then keep this one open, and TCP detects a broken link.

One loop acknowledges answered batches, sends the next batch, and waits. All events (records, responses, the end of
the connection, timers) wake it through the same `asyncio.Event`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from itertools import chain
from math import inf
from typing import Final, Protocol

from agents.box.buffer import Buffer
from agents.box.files.requests import RequestQueue, TransferRequest
from agents.box.uplink.batching import (
    BATCH_ENTRIES_BYTES_MAX,
    RANGE_INTERVAL_SECONDS,
    SLOW_SECONDS,
    LinkEstimator,
    SendScheduler,
    Timing,
)
from agents.spool import Priority, Record
from wire.compression import Compressor, compress_self_contained
from wire.dial.backoff import retry_after
from wire.http.connection import ClientConnection, HttpError, HttpFinished, Response
from wire.messages import ENTRY_BYTES_MAX, BatchRefusal, BatchReply, MessageError, decode, encode_batch

PATH: Final = "/v1/batches"
REPLY_SECONDS: Final = 20.0
"""Timeout of a response, in addition to the batch's transmission time on the slowest link."""
KEEP_ALIVE_SECONDS: Final = 25.0
"""Interval of empty lines while a response is awaited; common idle timeouts are 30 s or more."""
LINK_BYTES_PER_SECOND_MIN: Final = 2048


class StreamEnd(StrEnum):
    """Why a stream ended."""

    IDLE = "idle"  # closed with nothing in flight
    LOST = "lost"  # closed with something in flight
    FINISHED = "finished"  # closed after a response that announced it
    LATE = "late"  # no response in time
    REFUSED = "refused"  # a response with a status other than 200
    PROTOCOL_ERROR = "nonsense"  # an invalid response


class StreamError(Exception):
    """The end of a stream. With REFUSED, it has the HTTP status and the seconds of `Retry-After`.

    `rejected` is the record that the data center rejects, by priority and sequence number.
    """

    def __init__(
        self,
        kind: StreamEnd,
        status: int = 0,
        retry_after_s: float = 0.0,
        rejected: tuple[Priority, int] | None = None,
    ) -> None:
        self.kind = kind
        self.status = status
        self.retry_after_s = retry_after_s
        self.rejected = rejected


class _Batch:
    """A batch being assembled; the records of each priority are in ascending order."""

    def __init__(self, records_max: int) -> None:
        self.parts: dict[Priority, list[Record]] = {}
        self.records_left = records_max
        self.bytes_left = BATCH_ENTRIES_BYTES_MAX

    def add(self, priority: Priority, records: list[Record]) -> None:
        self.parts[priority] = records
        self.records_left -= len(records)
        self.bytes_left -= sum(len(entry) for _, entry in records)

    @property
    def is_full(self) -> bool:
        return self.records_left <= 0 or self.bytes_left < ENTRY_BYTES_MAX


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch or another request in flight."""

    answer: asyncio.Future[Response]
    parts: dict[Priority, list[Record]]
    records: int
    body_bytes: int
    full_records: int
    """`records` if the batch was full, else 0."""
    at: float
    transfer: TransferRequest | None = None
    """A request of `RequestQueue`, such as one for a range of a file; None for a batch."""
    is_beside_transfer: bool = False
    """Whether a transfer was in flight, so that the batch's response does not measure the link."""

    @property
    def bytes_both_ways(self) -> int:
        return self.body_bytes + (self.transfer.answer_bytes if self.transfer else 0)


class Bypass(Protocol):
    """Another connection for urgent records (alerts and audit records): see `agents.box.uplink.alert_lane`."""

    @property
    def is_up(self) -> bool:
        """Whether it carries the urgent records."""

    def opens_at(self) -> float:
        """Return the event loop time from which `open` may be called; inf for never."""

    def open(self) -> None:
        """Start opening the connection."""


class Stream:
    """Forwards the buffer's records over `connection` until it ends; `run` then raises StreamError."""

    def __init__(
        self,
        connection: ClientConnection,
        buffer: Buffer,
        estimator: LinkEstimator,
        timing: Timing,
        *,
        heartbeat: Callable[[], object],
        settled: Callable[[int, BatchReply], object],
        wall_s: Callable[[], float],
        self_contained_until: float = 0.0,
        bypass: Bypass | None = None,
        only_urgent: bool = False,
        requests: RequestQueue | None = None,
    ) -> None:
        """`settled(records, reply)` is called after a batch's records have been acknowledged.

        `wall_s` is the wall clock, in seconds since 1970.

        Until `self_contained_until`, in event loop time, each batch is compressed separately, for intermediaries that
        distribute requests over several connections.

        `bypass` is opened when an alert waits behind a slow batch, and carries the urgent records while it is up.
        With `only_urgent`, the stream sends no routine records. `requests` are sent while no record is due, and
        otherwise at most one per RANGE_INTERVAL_SECONDS.
        """
        self._connection, self._buffer, self._estimator, self._timing = connection, buffer, estimator, timing
        self._heartbeat, self._settled, self._wall_s = heartbeat, settled, wall_s
        self._bypass, self._only_urgent, self._requests = bypass, only_urgent, requests
        self._transfer_in_flight = False
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self.self_contained_until = self_contained_until
        self._compressor = Compressor()
        self._in_flight: deque[_Sent] = deque()
        self._read_through = dict.fromkeys(Priority, 0)
        self._scheduler = SendScheduler(estimator, timing)
        self._sent_at = self._answered_at = self._keep_alive_sent_at = self._loop.time()
        self._alert_unread = False  # an alert arrived after the last read, and nothing else carries it
        self._released = False

    async def run(self) -> None:
        """Forward until the stream ends. Raises: StreamError always; SpoolError if the disk has been removed."""
        self._estimator.connected()
        stop = self._buffer.listen(self._arrived)
        self._connection.lost.add_done_callback(self._ended)
        if self._requests is not None:
            self._requests.changed = self._wake.set
        try:
            if not self._only_urgent:
                self._scheduler.routine += (await self._buffer.status()).records[Priority.ROUTINE]
            while True:
                self._wake.clear()
                await self._settle_answered()
                if self._connection.transport is None:
                    kind = StreamEnd.FINISHED if self._connection.is_finished else StreamEnd.IDLE
                    raise StreamError(kind)
                if not await self._send() and not await self._send_transfer():
                    if self._released and not self._in_flight:
                        raise StreamError(StreamEnd.IDLE)
                    await self._wait()
        finally:
            stop()
            self._connection.abort()

    @property
    def is_urgent(self) -> bool:
        """Whether urgent records may wait to be sent."""
        return self._scheduler.urgent

    def release(self) -> None:
        """End with StreamEnd.IDLE as soon as no record waits and no response is awaited."""
        self._released = True
        self._wake.set()

    def bypass_ended(self, *, unsent: bool) -> None:
        """Take over alerts and audit records again; `unsent` says whether some of them may be waiting."""
        self._scheduler.urgent = True
        self._alert_unread = unsent
        self._wake.set()

    # -- events and timers ------------------------------------------------------------------------------

    def _arrived(self, priority: Priority, records: int) -> None:
        if priority == Priority.ALERT and not self._is_bypassed:
            self._alert_unread = True
        elif priority == Priority.ROUTINE and self._only_urgent:
            return
        if self._scheduler.arrived(priority, records, self._loop.time()):
            self._wake.set()

    def _ended(self, _lost: asyncio.Future[None]) -> None:
        self._wake.set()

    def _answered(self, answer: asyncio.Future[Response]) -> None:
        if not answer.cancelled():
            answer.exception()  # mark it as retrieved, even if this batch is never settled
        self._wake.set()

    async def _wait(self) -> None:
        """Wait for an event or the next timer."""
        late_at = self._late_at()
        heartbeat_at = self._sent_at + self._timing.heartbeat_s
        keep_alive_at = self._keep_alive_due_at()
        bypass_at = self._bypass_at()
        due_at = min(
            late_at, heartbeat_at, keep_alive_at, bypass_at, self._scheduler.due_at(), self._transfer_at()
        )
        timer = self._loop.call_at(due_at, self._wake.set)
        await self._wake.wait()
        timer.cancel()
        now = self._loop.time()
        if now >= late_at and not self._in_flight[0].answer.done():
            self._estimator.unanswered()
            self._estimator.reply_timeout.expired()
            raise StreamError(StreamEnd.LATE)
        if now >= keep_alive_at:
            self._keep_alive_sent_at = now
            self._connection.send_empty_line()
        if self._bypass is not None and now >= max(bypass_at, self._bypass_at()):
            self._bypass.open()
        if now >= heartbeat_at:
            self._sent_at = now
            self._heartbeat()

    def _late_at(self) -> float:
        """Return the time at which the next response is late; inf if none is awaited."""
        if not self._in_flight:
            return inf
        first = self._in_flight[0]
        seconds = REPLY_SECONDS * self._estimator.reply_timeout.factor
        return self._begun_at(first) + seconds + first.bytes_both_ways / LINK_BYTES_PER_SECOND_MIN

    def _transfer_at(self) -> float:
        """Return the time at which transfers resume; inf if they are not paused."""
        if self._requests is None:
            return inf
        now = self._loop.time()
        resumes_at = max(self._requests.resumes_at(), self._transfer_due_at(now))
        return resumes_at if resumes_at > now else inf

    def _keep_alive_due_at(self) -> float:
        """Return the time at which the next empty line is due; inf if no response is awaited."""
        if not self._in_flight:
            return inf
        return max(self._sent_at, self._answered_at, self._keep_alive_sent_at) + KEEP_ALIVE_SECONDS

    def _bypass_at(self) -> float:
        """Return the time from which an alert waits too long behind the first batch in flight; inf if none waits."""
        if self._bypass is None or not self._in_flight or not self._alert_waits:
            return inf
        return max(self._begun_at(self._in_flight[0]) + SLOW_SECONDS, self._bypass.opens_at())

    @property
    def _alert_waits(self) -> bool:
        """Whether an alert is unsent, or awaits more than the response to one batch of urgent records."""
        delivered, first = self._buffer.delivered[Priority.ALERT], self._in_flight[0]
        return self._alert_unread or any(
            sent.parts[Priority.ALERT][-1][0] > delivered
            for sent in self._in_flight
            if Priority.ALERT in sent.parts and (sent is not first or Priority.ROUTINE in sent.parts)
        )

    @property
    def _is_bypassed(self) -> bool:
        return self._bypass is not None and self._bypass.is_up

    def _begun_at(self, sent: _Sent) -> float:
        """Return the time at which the data center could begin to process this batch, the first in flight."""
        return max(sent.at, self._answered_at)

    # -- sending ----------------------------------------------------------------------------------------

    async def _send(self) -> bool:
        """Send the next batch; return whether there was one to send."""
        scheduler = self._scheduler
        scheduler.urgent_is_bypassed = self._is_bypassed
        urgent, routine = scheduler.choose(self._loop.time())
        if not urgent and not routine:
            return False
        batch = _Batch(self._estimator.records_max)
        if urgent:
            scheduler.urgent = self._alert_unread = False  # set again by arrivals, also during these reads
            await self._read(Priority.ALERT, batch)
            self._alert_unread = self._alert_unread or batch.is_full
            if not batch.is_full:
                await self._read(Priority.AUDIT, batch)
            scheduler.urgent = scheduler.urgent or batch.is_full
        if routine and not batch.is_full:
            expected = scheduler.routine
            scheduler.routine_read(expected, await self._read(Priority.ROUTINE, batch))
        if batch.parts:
            self._post(batch)
        return True

    async def _send_transfer(self) -> bool:
        """Send the next request of `requests` if it may be sent now; return whether there was one."""
        estimator, now = self._estimator, self._loop.time()
        if self._requests is None or self._transfer_in_flight or self._released:
            return False
        if (estimator.one_in_flight or estimator.is_slow) and self._in_flight:
            return False
        if now < self._transfer_due_at(now):
            return False
        request = await self._requests.next_request(estimator.range_bytes_max)
        if request is None:
            return False
        answer = self._connection.request(request.method, request.target, request.body, request.headers)
        answer.add_done_callback(self._answered)
        self._sent_at = self._loop.time()
        self._in_flight.append(_Sent(answer, {}, 0, len(request.body), 0, self._sent_at, request))
        self._transfer_in_flight, estimator.range_sent_at = True, self._sent_at
        return True

    def _transfer_due_at(self, now: float) -> float:
        """Return the time from which a transfer may be sent: -inf, or after an interval if it would delay records."""
        is_limited = self._estimator.is_slow or self._scheduler.has_backlog(now)
        return self._estimator.range_sent_at + RANGE_INTERVAL_SECONDS if is_limited else -inf

    async def _read(self, priority: Priority, batch: _Batch) -> int:
        """Add records of `priority` to the batch until it is full; return how many."""
        after = self._read_through[priority]
        records = await self._buffer.read(priority, batch.records_left, batch.bytes_left, after)
        if records:
            self._read_through[priority] = records[-1][0]
            batch.add(priority, records)
        return len(records)

    def _post(self, batch: _Batch) -> None:
        records = sorted(chain.from_iterable(batch.parts.values()))
        body = self._compress(encode_batch(self._buffer.epoch, records))
        answer = self._connection.request("POST", PATH, body)
        answer.add_done_callback(self._answered)
        self._sent_at = self._loop.time()
        full = len(records) if len(records) >= self._estimator.records_max else 0
        sent = _Sent(
            answer,
            batch.parts,
            len(records),
            len(body),
            full,
            self._sent_at,
            is_beside_transfer=self._transfer_in_flight,
        )
        self._estimator.sent(sent.records, sent.body_bytes)
        self._in_flight.append(sent)
        self._count_in_flight(sent, 1)

    def _compress(self, batch: bytes) -> bytes:
        self_contained = self._loop.time() < self.self_contained_until
        return compress_self_contained(batch) if self_contained else self._compressor.compress(batch)

    def _count_in_flight(self, sent: _Sent, change: int) -> None:
        if Priority.ROUTINE in sent.parts:
            self._scheduler.routine_in_flight += change
        else:
            self._scheduler.urgent_in_flight += change

    # -- settling ---------------------------------------------------------------------------------------

    async def _settle_answered(self) -> None:
        while self._in_flight and self._in_flight[0].answer.done():
            sent = self._in_flight.popleft()
            now, begun_at = self._loop.time(), self._begun_at(sent)
            if sent.transfer is not None:
                await self._settle_transfer(sent, sent.transfer, now)
                continue
            try:
                reply = _parse_reply(sent, self._buffer.epoch, self._wall_s())
            except StreamError as error:
                if now - begun_at > SLOW_SECONDS and (error.kind is StreamEnd.LOST or error.status >= 500):
                    self._estimator.cut_off(sent.records)  # by an intermediary
                raise
            self._estimator.reply_timeout.answered((now - begun_at) / REPLY_SECONDS)
            if not sent.is_beside_transfer:
                self._estimator.answered(sent.body_bytes, sent.at, now, sent.full_records)
            self._estimator.one_in_flight = self._connection.is_finished
            self._answered_at = now
            for priority, records in sent.parts.items():
                await self._buffer.ack(priority, records[-1][0])
            self._count_in_flight(sent, -1)
            self._settled(sent.records, reply)

    async def _settle_transfer(self, sent: _Sent, request: TransferRequest, now: float) -> None:
        try:
            response = sent.answer.result()
        except HttpFinished as error:
            raise StreamError(StreamEnd.FINISHED) from error
        except HttpError as error:
            raise StreamError(StreamEnd.LOST) from error
        self._transfer_in_flight = False
        self._estimator.range_answered(sent.bytes_both_ways, now - self._begun_at(sent))
        self._estimator.one_in_flight = self._connection.is_finished
        self._answered_at = now
        assert self._requests is not None, "`requests` made the request"
        await self._requests.answered(request, response)


def _parse_reply(sent: _Sent, epoch: int, now_s: float) -> BatchReply:
    """Return the reply to a batch; `now_s` is the wall clock in seconds since 1970.

    Raises: StreamError LOST, FINISHED, REFUSED, PROTOCOL_ERROR.
    """
    try:
        response = sent.answer.result()
        if response.status != 200:
            delay_s, rejected = retry_after(response.headers, now_s), _rejected_record(sent, epoch, response)
            raise StreamError(StreamEnd.REFUSED, response.status, delay_s, rejected)
        reply = decode(BatchReply, response.body)
    except HttpFinished as error:
        raise StreamError(StreamEnd.FINISHED) from error
    except HttpError as error:
        raise StreamError(StreamEnd.LOST) from error
    except MessageError as error:
        raise StreamError(StreamEnd.PROTOCOL_ERROR) from error
    if reply.stored > sent.records:  # not a reply to this batch
        raise StreamError(StreamEnd.PROTOCOL_ERROR)
    return reply


def _rejected_record(sent: _Sent, epoch: int, response: Response) -> tuple[Priority, int] | None:
    """Return the record that a refusal names, if it belongs to this batch."""
    if response.status != HTTPStatus.UNPROCESSABLE_ENTITY:
        return None
    try:
        refusal = decode(BatchRefusal, response.body)
    except MessageError:
        return None
    if refusal.epoch == epoch:
        for priority, records in sent.parts.items():
            if any(seq == refusal.sequence for seq, _ in records):
                return priority, refusal.sequence
    return None
