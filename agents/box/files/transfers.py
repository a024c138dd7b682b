"""Transfers files between data center and box in ranges, one range at a time, with lower priority than reports.

A transfer has no state in memory: the missing ranges follow from the waiting commands and from the files on the disk,
so that a transfer continues after any interruption.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher
from agents.box.files.requests import TransferRequest
from agents.box.files.store import BoxFile, BoxFiles, FileKey, NoRoomError
from hal.disk import DiskError
from wire.files import DOWN_VERBS, UP_VERBS, FileProgress, FileReference, RangeRequest, UploadRange
from wire.http.connection import Response
from wire.messages import Command, MessageError, decode

PAUSE_SECONDS: Final = 30.0
"""Pause after a range that was refused, or a failure of the disk."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileRequest(TransferRequest):
    """A request that downloads or uploads a range of a file."""

    file: BoxFile

    @property
    def offset(self) -> int:
        """The offset of the range in the file."""
        return int(self.target.split("/")[-2 if self.method == "GET" else -1])


class FileTransfers:
    """The transfers of a box; `Stream` sends their requests."""

    def __init__(self, files: BoxFiles, buffer: Buffer, dispatcher: CommandDispatcher) -> None:
        self._files, self._buffer, self._dispatcher = files, buffer, dispatcher
        self._loop = asyncio.get_running_loop()
        self._not_before = 0.0
        self._sent: dict[str, int] = {}  # by stem, the bytes of an upload that the data center has confirmed
        self.changed: Callable[[], object] = lambda: None
        """Called when there may be a range to transfer."""
        self.also_needed: Callable[[], set[str]] = set
        """Returns the stems of files that must not be evicted for files of commands."""

    def key_of(self, command: Command) -> FileKey | None:
        """Return the file that a command transfers to its instrument; None without a valid reference."""
        if command.verb not in DOWN_VERBS or not command.body:
            return None
        try:
            reference = decode(FileReference, command.body)
        except MessageError:
            return None
        return FileKey(reference.sha256, reference.size)

    def is_ready(self, command: Command) -> bool:
        """Return whether a command can be sent to its instrument: its file, if any, is complete on the box."""
        key = self.key_of(command)
        return key is None or self._files.is_complete(key)

    def resumes_at(self) -> float:
        """Return the event loop time from which `next_request` may have one, after a pause."""
        return self._not_before

    async def on_disk(self, call: Callable[[], T]) -> T:
        """Make a blocking call of `files` on the thread of the disk. Raises: DiskError."""
        return await self._buffer.call(call)

    def needed(self) -> set[str]:
        """Return the stems of the files that waiting commands need, and of those in `also_needed`."""
        waiting = self._dispatcher.waiting()
        uploads = (FileKey("", 0, command.id) for command in waiting if command.verb in UP_VERBS)
        return {key.stem for key in (*uploads, *(key for _, key in self._wanted()))} | self.also_needed()

    def _wanted(self) -> Iterator[tuple[Command, FileKey]]:
        for command in self._dispatcher.waiting():
            if (key := self.key_of(command)) is not None:
                yield command, key

    async def next_request(self, bytes_max: int) -> FileRequest | None:
        """Return the next request, with a range of at most `bytes_max` bytes; None if there is none."""
        if self._loop.time() < self._not_before:
            return None
        try:
            return await self._upload(bytes_max) or await self._download(bytes_max)
        except DiskError:
            self._pause()
            return None

    async def _upload(self, bytes_max: int) -> FileRequest | None:
        for file in self._files.uploads():
            key = file.key
            offset = self._sent.get(key.stem)
            upload = UploadRange(key.command, key.sha256, key.size, offset or 0)
            # an empty range asks how many bytes the data center has
            length = 0 if offset is None else bytes_max
            read = self._files.read
            body = await self.on_disk(lambda: read(file, upload.offset, length)) if length else b""  # noqa: B023
            return FileRequest("PUT", upload.target, body, 0, file)
        return None

    async def _download(self, bytes_max: int) -> FileRequest | None:
        for command, key in list(self._wanted()):
            if self._files.is_complete(key):
                continue
            try:
                needed = self.needed()
                file = await self.on_disk(lambda: self._files.begin(key, needed))  # noqa: B023
            except NoRoomError:
                self._dispatcher.refuse(command.id)
                continue
            length = min(bytes_max, key.size - file.received)
            target = RangeRequest(key.sha256, file.received, length).target
            return FileRequest("GET", target, b"", length, file)
        return None

    async def answered(self, request: TransferRequest, response: Response) -> None:
        """Handle the response to a request. Raises: nothing; after a failure the range is requested again."""
        assert isinstance(request, FileRequest), "this queue makes no others"
        try:
            if response.status != HTTPStatus.OK:
                await self._refused_range(request, response.status)
            elif request.method == "GET":
                await self._received(request, response.body)
            else:
                await self._sent_range(request, decode(FileProgress, response.body).received)
        except (DiskError, MessageError):
            self._pause()

    async def _received(self, request: FileRequest, body: bytes) -> None:
        if not 1 <= len(body) <= request.answer_bytes:
            self._pause()
            return
        file, files = request.file, self._files
        await self.on_disk(lambda: files.write(file, request.offset, body))

    async def _sent_range(self, request: FileRequest, received: int) -> None:
        file = request.file
        if received == file.key.size:
            await self._remove(file)
        else:
            self._sent[file.key.stem] = received

    async def _refused_range(self, request: FileRequest, status: int) -> None:
        if request.method == "PUT" and status == HTTPStatus.CONFLICT:
            await self._remove(request.file)  # no command needs it any longer
        else:
            self._pause()

    async def _remove(self, file: BoxFile) -> None:
        self._sent.pop(file.key.stem, None)
        await self.on_disk(lambda: self._files.remove(file))

    def _pause(self) -> None:
        self._not_before = self._loop.time() + PAUSE_SECONDS
