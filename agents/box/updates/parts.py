"""Parts of released files on the box's disk, such as the blocks of a slot, fetched in durable ranges.

A part is a file with one sector that contains the received length, followed by the content. The file of a part is
kept until the update ends, so that a program that starts again continues with the next range.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from struct import Struct
from typing import Any, Final, TypeAlias

from hal.disk import Disk, DiskError, DiskErrorKind

FetchPart: TypeAlias = Callable[[str, int, int], Awaitable[bytes]]
"""Returns 1 to `length` bytes of a target; the arguments are its SHA-256, the offset and the length."""
SECTOR: Final = 512
_PREFIX: Final = "update-part-"
_RECEIVED: Final = Struct("<QQ")  # the received length, and its complement
_ALL_ONES: Final = 2**64 - 1


class TargetParts:
    """Fetches parts of targets. `call` makes a blocking call on the thread of the disk."""

    def __init__(
        self, disk: Disk, call: Callable[[Callable[[], Any]], Awaitable[Any]], fetch: FetchPart
    ) -> None:
        """`fetch` requests ranges from the data center; its exceptions propagate to the caller."""
        self._disk, self._call, self._fetch = disk, call, fetch

    async def fetch(self, sha256: str, offset: int, length: int) -> bytes:
        """Return a part of a target, after fetching its missing ranges.

        Raises: DiskError, FULL without room for the whole part; the exceptions of the `fetch` that was given.
        """
        name = _name(sha256, offset)
        received: int = await self._call(lambda: self._begin(name, length))
        while received < length:
            body = await self._fetch(sha256, offset + received, length - received)
            position = SECTOR + received
            await self._call(lambda: self._disk.commit(name, position, body))  # noqa: B023
            received += len(body)
            sector = _RECEIVED.pack(received, received ^ _ALL_ONES).ljust(SECTOR, b"\0")
            await self._call(lambda: self._disk.commit(name, 0, sector))  # noqa: B023
        data: bytes = await self._call(lambda: self._disk.read(name, SECTOR, length) if length else b"")
        return data

    async def remove(self, sha256: str, offset: int) -> None:
        """Remove a part, if it exists. Raises: DiskError."""
        await self._call(lambda: self._remove(_name(sha256, offset)))

    async def clear(self) -> None:
        """Remove all parts. Raises: DiskError."""

        def remove_all() -> None:
            for name in self._disk.names():
                if name.startswith(_PREFIX):
                    self._remove(name)

        await self._call(remove_all)

    def _begin(self, name: str, length: int) -> int:
        """Return the received length of a part, in bytes, after creating its file if it does not exist."""
        try:
            if self._disk.size(name) == SECTOR + length:
                received, complement = _RECEIVED.unpack_from(self._disk.read(name, 0, SECTOR))
                if received ^ complement == _ALL_ONES and received <= length:
                    return int(received)
        except DiskError as error:
            if error.kind is DiskErrorKind.UNAVAILABLE:
                raise
        self._disk.create(name, SECTOR + length)
        return 0

    def _remove(self, name: str) -> None:
        try:
            self._disk.remove(name)
        except DiskError as error:
            if error.kind is not DiskErrorKind.MISSING:
                raise


def _name(sha256: str, offset: int) -> str:
    return f"{_PREFIX}{sha256[:32]}-{offset:x}"
