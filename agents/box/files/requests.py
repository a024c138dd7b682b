"""Requests for files, updates and certificates, on the connection of the reports but with lower priority.

`agents.box.uplink.stream.Stream` fetches the next request when no report is due and none of these requests is in
flight, so that a report waits for one response at most. While reports wait it fetches one every ten seconds, since a
backlog may last for days, and certificates must be renewed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wire.http.connection import Response


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """A request for the stream to send, and the size of the response in bytes."""

    method: str
    target: str
    body: bytes
    answer_bytes: int

    @property
    def headers(self) -> str:
        """Further header lines."""
        return ""


class RequestQueue(Protocol):
    """Requests to send in addition to reports."""

    changed: Callable[[], object]
    """Called when there may be a request."""

    def resumes_at(self) -> float:
        """Return the event loop time from which there may be a request."""

    async def next_request(self, bytes_max: int) -> TransferRequest | None:
        """Return the next request, with a range of at most `bytes_max` bytes; None if there is none."""

    async def answered(self, request: TransferRequest, response: Response) -> None:
        """Handle the response to a request."""


class SingleRequest:
    """A queue of one request at a time. A request whose connection is lost is repeated on the next connection."""

    def __init__(self) -> None:
        self._make: Callable[[int], TransferRequest] | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._sent: TransferRequest | None = None  # the last request that the stream has fetched
        self._lock = asyncio.Lock()
        self.changed: Callable[[], object] = lambda: None

    async def ask(self, make: Callable[[int], TransferRequest]) -> Response:
        """Return the response to a request; `make` creates it, given the maximum size of a range in bytes."""
        async with self._lock:
            self._answer = asyncio.get_running_loop().create_future()
            self._make = make
            self.changed()
            try:
                return await self._answer
            finally:
                self._make = self._answer = self._sent = None

    def resumes_at(self) -> float:
        """See `RequestQueue.resumes_at`: there is no pause."""
        return 0.0

    async def next_request(self, bytes_max: int) -> TransferRequest | None:
        """See `RequestQueue.next_request`."""
        self._sent = self._make(bytes_max) if self._make is not None else None
        return self._sent

    async def answered(self, request: TransferRequest, response: Response) -> None:
        """See `RequestQueue.answered`: hand over the response if it is still awaited."""
        if request is self._sent and self._answer is not None and not self._answer.done():
            self._make = self._sent = None
            self._answer.set_result(response)


class RequestQueues:
    """Several queues as one: a queue is used only if the queues before it have no request."""

    def __init__(self, *queues: RequestQueue) -> None:
        self._queues = queues
        self._asked = queues[0]  # the queue of the request in flight
        self.changed: Callable[[], object] = lambda: None
        for queue in queues:
            queue.changed = self._queue_changed

    def _queue_changed(self) -> None:
        self.changed()

    def resumes_at(self) -> float:
        """See `RequestQueue.resumes_at`: the next time at which a pause ends."""
        now = asyncio.get_running_loop().time()
        return min((at for queue in self._queues if (at := queue.resumes_at()) > now), default=0.0)

    async def next_request(self, bytes_max: int) -> TransferRequest | None:
        """See `RequestQueue.next_request`."""
        for queue in self._queues:
            if (request := await queue.next_request(bytes_max)) is not None:
                self._asked = queue
                return request
        return None

    async def answered(self, request: TransferRequest, response: Response) -> None:
        """See `RequestQueue.answered`."""
        await self._asked.answered(request, response)
