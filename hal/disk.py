"""Disk: where the box keeps what it must not lose.

A disk is a flat set of named, fixed-size files. That is all the buffer needs, and little enough that an
emulation can be exact about what a power cut leaves behind. Calls block: the box runs them on one thread of
its own (`agents.box.buffer`), so an implementation is never entered twice at once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class DiskErrorKind(StrEnum):
    """What the caller can do about it."""

    FULL = "full"  # no room for a new file: free some, or do without
    IO = "io"  # the device failed; what was being written is in an unknown state
    MISSING = "missing"  # there is no file of that name
    GONE = "gone"  # the device is no longer there (power cut, unplugged)


class DiskError(Exception):
    """An operating error of a disk; callers branch on `kind` alone."""

    def __init__(self, kind: DiskErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Disk(Protocol):
    """A set of named files of fixed size, in bytes. Names match ``[a-z0-9.-]{1,64}``."""

    def names(self) -> list[str]:
        """The files that exist, sorted. Raises: IO, GONE."""
        ...

    def size(self, name: str) -> int:
        """The size of file `name`, in bytes. Raises: MISSING, IO, GONE."""
        ...

    def create(self, name: str, size: int) -> None:
        """Make a file of `size` zero bytes with its blocks written, replacing any of that name.

        On return the zeros, the size and the name are durable. A power cut before that leaves either
        nothing or the whole file. Raises: FULL (nothing was made), IO, GONE.
        """
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """The `length` bytes at `offset`, as last written. Raises: MISSING, IO (unreadable sector), GONE."""
        ...

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Replace the bytes at `offset`, within the file's size.

        On return they can be read back, and **nothing** is promised about a power cut: each 512-byte
        sector may by then be old or new, in any order. Raises: MISSING, IO, GONE.
        """
        ...

    def flush(self, name: str) -> None:
        """On return every earlier write to `name` is durable.

        After IO the file's unflushed sectors are in an unknown state, and a later successful flush does not
        vouch for them: write them again elsewhere. Raises: MISSING, IO, GONE.
        """
        ...

    def commit(self, name: str, offset: int, data: bytes) -> None:
        """`write`, and on return these bytes are durable: what the box does for each group of records.

        One call, so that a system can do both at once. Of other unflushed writes to `name` nothing is said.
        Raises: those of `write` and `flush`.
        """
        ...

    def rename(self, name: str, new_name: str) -> None:
        """Give file `name` another name, replacing any of that name; atomic and durable on return.

        Raises: MISSING, IO, GONE.
        """
        ...

    def remove(self, name: str) -> None:
        """Delete file `name`; durable on return. Raises: MISSING, IO, GONE."""
        ...
