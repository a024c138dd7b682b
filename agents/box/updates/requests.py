"""The updater's requests to the data center: they share the connection of the reports, with the lowest priority.

They are sent one at a time, and only if the queues before this one have no request (`agents.box.files.requests`).
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from agents.box.files.requests import SingleRequest, TransferRequest
from wire.files import RangeRequest
from wire.http.connection import Response
from wire.messages import decode, encode
from wire.release.messages import PATH, MetadataRange, UpdateOrder, UpdateState


class NotAvailableError(Exception):
    """The data center did not respond as expected; `status` is the HTTP status of its response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the data center responded with status {status}")
        self.status = status


class UpdateRequests(SingleRequest):
    """The requests of the updater."""

    async def order(self, state: UpdateState) -> UpdateOrder:
        """Return the box's order. Raises: NotAvailableError, MessageError."""
        body = encode(state)
        response = await self._ask(lambda _: TransferRequest("POST", PATH, body, 1024))
        return decode(UpdateOrder, response.body)

    async def metadata(self, file: str, bytes_max: int) -> bytes | None:
        """Return a metadata file; None if there is none. Raises: NotAvailableError.

        A file that is longer than `bytes_max` may be truncated, but to no less than `bytes_max` + 1 bytes.
        """
        content = b""
        try:
            while len(content) <= bytes_max:
                offset = len(content)
                requested = 0

                def make(length: int, offset: int = offset) -> TransferRequest:
                    nonlocal requested
                    requested = length
                    return TransferRequest("GET", MetadataRange(file, offset, length).target, b"", length)

                part = (await self._ask(make)).body
                content += part
                if len(part) < requested:
                    return content
            return content
        except NotAvailableError as error:
            if error.status == HTTPStatus.NOT_FOUND and not content:
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
        response = await self.ask(make)
        if response.status != HTTPStatus.OK:
            raise NotAvailableError(response.status)
        return response
