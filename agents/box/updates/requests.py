"""The updater's requests to the data center: they share the connection of the reports, below everything else.

`Stream` asks for the next request when nothing else is to be sent, and carries one at a time. A request whose
connection is lost is made again on the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from agents.box.files.requests import TransferRequest
from wire.files import RangeRequest
from wire.http.connection import Response
from wire.messages import decode, encode
from wire.release.messages import PATH, MetadataRange, UpdateOrder, UpdateState


class NotAvailableError(Exception):
    """The data center does not answer as asked; `status` is that of its response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the data center answers {status}")
        self.status = status


class UpdateRequests:
    """One request at a time, as a queue of the stream (`agents.box.files.requests.RequestQueue`)."""

    def __init__(self) -> None:
        self._make: Callable[[int], TransferRequest] | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._sent: TransferRequest | None = None  # the last one that the stream has got
        self._lock = asyncio.Lock()
        self.changed: Callable[[], object] = lambda: None

    # -- for the stream ---------------------------------------------------------------------------------

    def resumes_at(self) -> float:
        """Return the event loop time from which there is a request: there is no pause."""
        return 0.0

    async def next_request(self, bytes_max: int) -> TransferRequest | None:
        """Return the request that waits, with an answer of at most `bytes_max` bytes; None if there is none."""
        self._sent = self._make(bytes_max) if self._make is not None else None
        return self._sent

    async def answered(self, request: TransferRequest, response: Response) -> None:
        """Hand over the response, unless nobody waits for it any more."""
        if request is self._sent and self._answer is not None and not self._answer.done():
            self._make = self._sent = None
            self._answer.set_result(response)

    # -- for the updater --------------------------------------------------------------------------------

    async def order(self, state: UpdateState) -> UpdateOrder:
        """Return the box's order. Raises: NotAvailableError, MessageError."""
        body = encode(state)
        response = await self._ask(lambda _: TransferRequest("POST", PATH, body, 1024))
        return decode(UpdateOrder, response.body)

    async def metadata(self, file: str, bytes_max: int) -> bytes | None:
        """Return a metadata file; None if there is none. Raises: NotAvailableError.

        One that is longer than `bytes_max` is cut off behind them.
        """
        found = b""
        try:
            while len(found) <= bytes_max:
                offset = len(found)
                asked = 0

                def make(length: int, offset: int = offset) -> TransferRequest:
                    nonlocal asked
                    asked = length
                    return TransferRequest("GET", MetadataRange(file, offset, length).target, b"", length)

                part = (await self._ask(make)).body
                found += part
                if len(part) < asked:
                    return found
            return found
        except NotAvailableError as error:
            if error.status == HTTPStatus.NOT_FOUND and not found:
                return None
            raise

    async def part(self, sha256: str, offset: int, length: int) -> bytes:
        """Return at least one of the next `length` bytes of a target. Raises: NotAvailableError."""

        def make(bytes_max: int) -> TransferRequest:
            wanted = min(bytes_max, length)
            return TransferRequest("GET", RangeRequest(sha256, offset, wanted).target, b"", wanted)

        body = (await self._ask(make)).body
        if not 1 <= len(body) <= length:
            raise NotAvailableError(HTTPStatus.NO_CONTENT)
        return body

    async def _ask(self, make: Callable[[int], TransferRequest]) -> Response:
        async with self._lock:
            self._answer = asyncio.get_running_loop().create_future()
            self._make = make
            self.changed()
            try:
                response = await self._answer
            finally:
                self._make = self._answer = self._sent = None
        if response.status != HTTPStatus.OK:
            raise NotAvailableError(response.status)
        return response
