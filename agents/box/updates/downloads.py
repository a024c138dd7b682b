"""Fetches the files of releases to the box's disk: in ranges, each durable before the next one is requested."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from typing import Final, TypeVar

from agents.box.files.store import BoxFiles, FileKey, NoRoomError
from agents.box.updates.metadata import OrderRefused
from agents.box.updates.requests import NotAvailableError, UpdateRequests
from agents.box.updates.surroundings import UpdateSurroundings
from hal.disk import DiskError, DiskErrorKind

PAUSE_SECONDS_MIN: Final = 30.0
PAUSE_SECONDS_MAX: Final = 3600.0
"""Limits of the pauses after an unexpected response of the data center; each is twice as long as the previous one."""
T = TypeVar("T")


class Downloads:
    """The files of releases on the box's disk."""

    def __init__(
        self,
        requests: UpdateRequests,
        files: BoxFiles,
        surroundings: UpdateSurroundings,
        report_problem: Callable[[str], object],
    ) -> None:
        """`report_problem` receives messages for the operator."""
        self._requests, self._files, self._surroundings = requests, files, surroundings
        self._report_problem = report_problem

    async def until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a request until it succeeds, with increasing pauses; a lasting problem is reported once."""
        pause = PAUSE_SECONDS_MIN
        while True:
            try:
                return await call()
            except NotAvailableError as error:
                if pause == PAUSE_SECONDS_MIN:
                    self._report_problem(str(error))
                await asyncio.sleep(pause)
                pause = min(PAUSE_SECONDS_MAX, 2 * pause)

    async def part(self, sha256: str, offset: int, length: int) -> bytes:
        """Return at least one of the next `length` bytes of a target, as soon as the data center has it."""
        return await self.until_available(lambda: self._requests.part(sha256, offset, length))

    async def make_room(self, *keys: FileKey) -> None:
        """Allocate the full size of files. Raises: OrderRefused without room, DiskError."""
        needed = self._surroundings.needed_files() | {key.stem for key in keys}
        for key in keys:
            try:
                await self._surroundings.call(lambda: self._files.begin(key, needed))  # noqa: B023
            except NoRoomError as error:
                raise OrderRefused("no-room", f"there is no room for {key.size} bytes: {error}") from None

    def missing(self, *keys: FileKey) -> list[FileKey]:
        """Return the keys of the files that are missing or incomplete."""
        return [key for key in keys if not self._files.is_complete(key)]

    async def fetch(self, key: FileKey) -> bool:
        """Fetch the rest of a file; return False if its hash is wrong and it was removed.

        Raises: OrderRefused without room, DiskError.
        """
        await self.make_room(key)
        while not self._files.is_complete(key):
            file = self._files.find(key)
            if file is None:
                return False
            offset = file.received
            body = await self.part(key.sha256, offset, key.size - offset)
            await self._surroundings.call(lambda: self._files.write(file, offset, body))  # noqa: B023
        return True

    async def read(self, key: FileKey) -> bytes | None:
        """Return a file; None if it is missing or was changed. Raises: DiskError UNAVAILABLE."""
        content: bytes | None = await self._surroundings.call(lambda: read_verified(self._files, key))
        return content

    async def remove(self, key: FileKey) -> None:
        """Remove a file, if it exists. Raises: DiskError."""
        if (file := self._files.find(key)) is not None:
            await self._surroundings.call(lambda: self._files.remove(file))


def read_verified(files: BoxFiles, key: FileKey) -> bytes | None:
    """Return a file of the disk; None if it is missing, or differs from its verified content and was removed. Blocks.

    Raises: DiskError UNAVAILABLE.
    """
    file = files.find(key)
    if file is None or not file.is_complete:
        return None
    try:
        data = files.read(file, 0, key.size)
    except DiskError as error:
        if error.kind is DiskErrorKind.UNAVAILABLE:
            raise
        data = b""
    if sha256(data).hexdigest() == key.sha256:
        return data
    with suppress(DiskError):
        files.remove(file)
    return None
