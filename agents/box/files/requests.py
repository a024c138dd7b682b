"""Requests that share the connection of the reports, below all of them: those of files, and those of updates.

`agents.box.uplink.stream.Stream` asks for the next request when it has no report to send and none of these requests
is in flight, so that a report waits for one answer at most.
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


class RequestQueue(Protocol):
    """Requests to make beside the reports."""

    changed: Callable[[], object]
    """Called when there may be a request."""

    def resumes_at(self) -> float:
        """Return the event loop time from which there may be a request."""

    async def next_request(self, bytes_max: int) -> TransferRequest | None:
        """Return the next request, with a range of at most `bytes_max` bytes; None if there is none."""

    async def answered(self, request: TransferRequest, response: Response) -> None:
        """Handle the response to a request."""


class RequestQueues:
    """Several queues as one: a queue is asked only if those before it have no request."""

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
