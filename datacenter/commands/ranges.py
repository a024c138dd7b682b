"""Answers requests of boxes for ranges of files, and stores the ranges of uploads (`wire.files`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from http import HTTPStatus

from datacenter.commands.files import FileArchive, FileTooLargeError, UploadRefusedError
from datacenter.store.errors import StoreError
from wire.files import RANGE_BYTES_MAX, FileProgress, RangeRequest, UploadRange, parse_range, parse_upload
from wire.http.connection import Request, Response
from wire.messages import encode

RETRY_AFTER = {"retry-after": "60"}


class FileRanges:
    """Handles the requests for files; `executor` is the thread of the store, None for the default executor."""

    def __init__(self, archive: FileArchive, executor: Executor | None, now_ms: Callable[[], int]) -> None:
        self._archive, self._executor, self._now_ms = archive, executor, now_ms

    async def answer(self, request: Request, box: str) -> Response:
        """Answer a request of a box."""
        answer: Callable[[], Response] | None = None
        if request.method == "GET" and (wanted := parse_range(request.target)):
            answer = partial(self._send, box, wanted)
        elif request.method == "PUT" and (upload := parse_upload(request.target)):
            answer = partial(self._receive, box, upload, request.body[:RANGE_BYTES_MAX])
        if answer is None:
            return Response(HTTPStatus.BAD_REQUEST, b"not a valid request for a range of a file")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, answer)
        except StoreError:
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, b"the database failed", dict(RETRY_AFTER))

    def _send(self, box: str, wanted: RangeRequest) -> Response:
        body = self._archive.read_range(box, wanted)
        if body is None:
            return Response(HTTPStatus.NOT_FOUND, b"no open command of this box has this file")
        return Response(HTTPStatus.OK, body)

    def _receive(self, box: str, upload: UploadRange, body: bytes) -> Response:
        try:
            received = self._archive.receive(box, upload, body, self._now_ms())
        except UploadRefusedError:
            return Response(HTTPStatus.CONFLICT, b"no open command of this box requests this upload")
        except FileTooLargeError as error:
            return Response(HTTPStatus.INSUFFICIENT_STORAGE, str(error).encode(), dict(RETRY_AFTER))
        return Response(HTTPStatus.OK, encode(FileProgress(received)))
