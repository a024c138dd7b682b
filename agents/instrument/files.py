"""Files between box and instrument, in ranges (`wire.files`), over a separate connection."""

from __future__ import annotations

import asyncio
import hashlib
from http import HTTPStatus
from random import Random
from typing import Final

from settings.types import Endpoint
from wire.dial.backoff import Backoff, retry_after
from wire.dial.dialer import dial
from wire.files import RANGE_BYTES_MAX, FileProgress, FileReference, RangeRequest, UploadRange
from wire.http.connection import ClientConnection, HttpError, Response
from wire.messages import MessageError, decode
from wire.tls.context import ClientContext

RANGE_SECONDS_MAX: Final = 30.0
"""Timeout of a response."""
VERIFY_TRIES: Final = 3
"""Number of transfers with a wrong hash after which a file is given up."""


class FileTransferError(Exception):
    """The box does not have the file, or rejects the upload; `is_refusal` if the box has no room for it."""

    def __init__(self, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal


class FileClient:
    """Fetches and sends files one after the other, and reconnects until each is complete."""

    def __init__(self, box: Endpoint, tls: ClientContext, random: Random) -> None:
        self._box, self._tls = box, tls
        self._backoff = Backoff(random)
        self._connection: ClientConnection | None = None
        self._one_at_a_time = asyncio.Lock()

    def use(self, tls: ClientContext) -> None:
        """Use another certificate for the next connection."""
        self._tls = tls

    async def fetch(self, reference: FileReference) -> bytes:
        """Return the content of a file, with its hash verified. Raises: FileTransferError."""
        async with self._one_at_a_time:
            try:
                for _ in range(VERIFY_TRIES):
                    content = await self._fetch(reference)
                    if hashlib.sha256(content).hexdigest() == reference.sha256:
                        return content
            finally:
                self._close()
        raise FileTransferError("the content of the file does not have the hash in the command")

    async def _fetch(self, reference: FileReference) -> bytes:
        content = bytearray()
        while len(content) < reference.size:
            wanted = RangeRequest(reference.sha256, len(content), RANGE_BYTES_MAX)
            part = await self._exchange("GET", wanted.target)
            if not part:
                raise FileTransferError("the box's file is shorter than the size in the command")
            content += part
        return bytes(content)

    async def send(self, command: int, content: bytes) -> None:
        """Send a file for a command; on return it is complete, verified and durable on the box.

        Raises: FileTransferError.
        """
        async with self._one_at_a_time:
            try:
                for _ in range(VERIFY_TRIES):
                    if await self._send(command, content):
                        return
            finally:
                self._close()
        raise FileTransferError("the box received the file with another hash")

    async def _send(self, command: int, content: bytes) -> bool:
        """Send all ranges; return whether the box has the file. False: its hash was wrong, and the box removed it."""
        sha256, size = hashlib.sha256(content).hexdigest(), len(content)
        received, last = -1, b""
        while received < size:
            upload = UploadRange(command, sha256, size, max(0, received))
            reply = await self._exchange("PUT", upload.target, last)
            try:
                progress = decode(FileProgress, reply).received
            except MessageError as error:
                raise FileTransferError(f"the box's response is invalid: {error}") from None
            if last and progress == 0:
                return False
            received = progress
            last = content[received : received + RANGE_BYTES_MAX]
        return True

    async def _exchange(self, method: str, target: str, body: bytes = b"") -> bytes:
        """Repeat a request until its status is 200; return the response's body. Raises: FileTransferError."""
        while True:
            delay = 0.0
            try:
                response = await self._request(method, target, body)
            except (OSError, HttpError):
                self._close()
                delay = self._backoff.failed()
            else:
                if response.status == HTTPStatus.OK:
                    self._backoff.succeeded()
                    return response.body
                if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.BAD_REQUEST):
                    raise FileTransferError(response.body.decode("utf-8", "replace"))
                if response.status == HTTPStatus.INSUFFICIENT_STORAGE:
                    raise FileTransferError("there is no room for the file on the box", is_refusal=True)
                delay = self._backoff.failed(retry_after(response.headers, 0.0))
            await asyncio.sleep(delay)

    async def _request(self, method: str, target: str, body: bytes) -> Response:
        connection = self._connection
        if connection is None or connection.transport is None:
            connection = await dial(self._box, self._tls, reply_bytes_max=RANGE_BYTES_MAX)
            self._connection = connection
        async with asyncio.timeout(RANGE_SECONDS_MAX):
            return await connection.request(method, target, body)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
