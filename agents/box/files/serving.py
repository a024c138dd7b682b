"""Answers the requests of instruments' agents for ranges of files (`wire.files`), and stores their uploads.

An agent can download only files of commands that wait for it, and upload only a file that such a command requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from agents.box.files.store import BoxFiles, FileKey, NoRoomError
from agents.box.files.transfers import FileTransfers
from hal.disk import DiskError
from wire.files import (
    FILES_PATH,
    RANGE_BYTES_MAX,
    UP_VERBS,
    FileProgress,
    RangeRequest,
    UploadRange,
    parse_range,
    parse_upload,
)
from wire.http.connection import Request, Response
from wire.messages import Command, encode


class FileServing:
    """The requests for files at the instrument ports."""

    def __init__(self, files: BoxFiles, transfers: FileTransfers) -> None:
        self._files, self._transfers = files, transfers

    def is_ready(self, command: Command) -> bool:
        """Return whether the file of a command, if it has one, is complete on the box."""
        return self._transfers.is_ready(command)

    def concerns(self, request: Request) -> bool:
        """Return whether a request is about files."""
        return request.target.startswith(FILES_PATH)

    async def handle(self, request: Request, instrument: str, commands: Iterable[Command]) -> Response:
        """Handle a request of an instrument for which these commands wait."""
        try:
            if request.method == "GET" and (wanted := parse_range(request.target)):
                return await self._send(wanted, commands)
            if request.method == "PUT" and (upload := parse_upload(request.target)):
                return await self._receive(upload, request.body, instrument, commands)
        except DiskError as error:
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, str(error).encode(), {"retry-after": "10"})
        return Response(HTTPStatus.BAD_REQUEST, b"not a valid request for a range of a file")

    async def _send(self, wanted: RangeRequest, commands: Iterable[Command]) -> Response:
        for command in commands:
            key = self._transfers.key_of(command)
            if key is None or key.sha256 != wanted.sha256:
                continue
            file = self._files.find(key)
            if file is not None and file.is_complete:
                files = self._files
                body = await self._transfers.on_disk(lambda: files.read(file, wanted.offset, wanted.length))  # noqa: B023
                return Response(HTTPStatus.OK, body)
        return Response(HTTPStatus.NOT_FOUND, b"no waiting command has this file")

    async def _receive(
        self, upload: UploadRange, body: bytes, instrument: str, commands: Iterable[Command]
    ) -> Response:
        if not any(command.id == upload.command and command.verb in UP_VERBS for command in commands):
            return Response(HTTPStatus.CONFLICT, b"no waiting command requests this upload")
        key = FileKey(upload.sha256, upload.size, upload.command, instrument)
        needed, files = self._transfers.needed(), self._files

        def store() -> int:
            file = files.begin(key, needed)
            files.write(file, upload.offset, body[:RANGE_BYTES_MAX])
            return file.received if files.find(key) is file else 0

        try:
            received = await self._transfers.on_disk(store)
        except NoRoomError as error:
            return Response(HTTPStatus.INSUFFICIENT_STORAGE, str(error).encode())
        if received == upload.size:
            self._transfers.changed()
        return Response(HTTPStatus.OK, encode(FileProgress(received)))
