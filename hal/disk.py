"""Disk: storage for data that must survive power cuts.

A disk is a flat set of named, fixed-size files. That is enough for the spool, and simple enough for an emulation to
model exactly what a power cut leaves behind. Calls block, and the box makes them on one dedicated thread
(`agents.box.buffer`), so an implementation is never entered concurrently.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class DiskErrorKind(StrEnum):
    """Error kinds that a caller can act on."""

    FULL = "full"  # no space for a new file: free some, or continue without it
    IO = "io"  # the device failed; the data being written is in an unknown state
    MISSING = "missing"  # there is no file with this name
    UNAVAILABLE = "unavailable"  # the device is no longer available (power cut, unplugged)


class DiskError(Exception):
    """An operating error of a disk; callers branch on `kind` alone."""

    def __init__(self, kind: DiskErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Disk(Protocol):
    """A set of named files of fixed size, in bytes. Names match ``[a-z0-9.-]{1,64}``."""

    def names(self) -> list[str]:
        """Return the names of all files, sorted. Raises: IO, UNAVAILABLE."""
        ...

    def size(self, name: str) -> int:
        """Return the size of file `name` in bytes. Raises: MISSING, IO, UNAVAILABLE."""
        ...

    def create(self, name: str, size: int) -> None:
        """Create a file of `size` zero bytes with its blocks written, replacing any file of that name.

        On return the zeros, the size and the name are durable. A power cut before that leaves either
        no file or the whole file. Raises: FULL (nothing was created), IO, UNAVAILABLE.
        """
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return the `length` bytes at `offset`, as last written.

        Raises: MISSING, IO (unreadable sector), UNAVAILABLE.
        """
        ...

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Replace the bytes at `offset`, within the file's size.

        On return the bytes can be read back, but are **not** durable: after a power cut each 512-byte sector
        may be old or new, independently of the others. Raises: MISSING, IO, UNAVAILABLE.
        """
        ...

    def flush(self, name: str) -> None:
        """Make every earlier write to `name` durable before returning.

        After IO the file's unflushed sectors are in an unknown state, which a later successful flush does not
        repair: write them again elsewhere. Raises: MISSING, IO, UNAVAILABLE.
        """
        ...

    def commit(self, name: str, offset: int, data: bytes) -> None:
        """Write, and make these bytes durable before returning: the box does this for each group of records.

        It is one call so that an implementation can combine both steps. Other unflushed writes to `name` may or may
        not become durable. Raises: as `write` and `flush`.
        """
        ...

    def rename(self, name: str, new_name: str) -> None:
        """Rename file `name`, replacing any file with the new name; atomic, and durable on return.

        Raises: MISSING, IO, UNAVAILABLE.
        """
        ...

    def remove(self, name: str) -> None:
        """Delete file `name`; durable on return. Raises: MISSING, IO, UNAVAILABLE."""
        ...
