"""Partition: a raw partition of the machine's disk, such as a slot of the operating system or the slot state.

A partition has a fixed size and no file system that the program mounts. It is read and written by position. Calls
block; an implementation is never entered concurrently. Errors are those of `hal.disk`: IO and UNAVAILABLE.
"""

from __future__ import annotations

from typing import Final, Protocol

SECTOR_BYTES: Final = 512
"""Writes are whole sectors at multiples of this."""


class Partition(Protocol):
    """A raw partition; offsets and lengths are in bytes."""

    @property
    def size(self) -> int:
        """The size in bytes, a multiple of SECTOR_BYTES."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return the `length` bytes at `offset`, within the size, from the device and not from the system's cache.

        Bytes that were written and not flushed may come from the device's own cache. Raises: IO (unreadable sector),
        UNAVAILABLE.
        """
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Replace whole sectors at `offset`, within the size.

        On return the bytes can be read back, but are **not** durable: after a power cut each sector may be old or
        new, independently of the others. Raises: IO, UNAVAILABLE.
        """
        ...

    def flush(self) -> None:
        """Make every earlier write durable before returning.

        After IO the unflushed sectors are in an unknown state, which a later successful flush does not repair: write
        them again. Raises: IO, UNAVAILABLE.
        """
        ...
