"""Cursors of a rotated log: read positions that survive renamed files, restarts and power cuts.

A file is identified by the hash of its first line, which has a time and a serial number: names change when the log is
rotated, and inode numbers are reused. A *piece* is a line with its newline, or PIECE_BYTES_MAX bytes of a longer
line; where pieces begin depends only on the file's content. A *mark* says how far a file was read, with a hash chain
of the pieces, which detects later changes of the part that was read.

The marks can be computed from the pieces in the order in which they were read, so storing the pieces also stores the
cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Final, Literal, TypeAlias

import msgspec

from wire.messages import LOG_LINE_BYTES_MAX

PIECE_BYTES_MAX: Final = LOG_LINE_BYTES_MAX
LogSource: TypeAlias = Literal["system", "sessions"]
"""The log that a `LogLine` comes from."""
SYSTEM: Final[LogSource] = "system"
"""The operating system's audit log."""
SESSIONS: Final[LogSource] = "sessions"
"""The audit file of remote sessions, also of those that people permitted and ended on the local page."""
FILE_ID_BYTES: Final = 16
FILES_MAX: Final = 128
"""The number of files whose marks are kept; when there are more, the marks of the oldest are removed."""
START: Final = bytes(32)
"""The digest of an empty chain."""


class LogMark(msgspec.Struct, array_like=True):
    """The bytes from `start` to `offset` of a file were read; `digest` is the chain of their pieces."""

    start: int = 0
    offset: int = 0
    digest: bytes = START

    def accept(self, offset: int, piece: bytes) -> None:
        """Move the mark over a piece. If it does not begin at the mark, as after a truncation, a new chain begins."""
        if offset != self.offset:
            self.start, self.digest = offset, START
        self.offset = offset + len(piece)
        self.digest = link(self.digest, piece)


class LogCursor(msgspec.Struct, array_like=True):
    """The marks of the files of one log by their identities, in the order in which the files were begun."""

    marks: dict[bytes, LogMark] = {}
    is_incomplete: bool = False
    """Whether pieces after the marks were lost on the disk. Until the caller resets it, no later piece is accepted,
    so that everything from the first lost piece on is read and stored again."""

    @property
    def newest(self) -> bytes:
        """The identity of the file that was begun last; empty before the first."""
        return next(reversed(self.marks), b"")

    def mark(self, file: bytes) -> LogMark:
        """Return the mark of a file; not a copy."""
        mark = self.marks.get(file)
        if mark is None:
            mark = self.marks[file] = LogMark()
            if len(self.marks) > FILES_MAX:
                del self.marks[next(iter(self.marks))]
        return mark

    def accept(self, file: bytes, offset: int, piece: bytes) -> None:
        """Move the mark of a file over a piece that is stored."""
        if not self.is_incomplete:
            self.mark(file).accept(offset, piece)

    def copy(self) -> LogCursor:
        """Return an independent copy."""
        marks = {file: LogMark(*msgspec.structs.astuple(mark)) for file, mark in self.marks.items()}
        return LogCursor(marks, self.is_incomplete)


def link(digest: bytes, piece: bytes) -> bytes:
    """Return the digest of a chain after `piece` is added; `digest` is the one before."""
    return sha256(digest + piece).digest()


def file_identity(start: bytes, *, is_final: bool) -> bytes:
    """Return the identity of a file that begins with `start`.

    It is empty while the first piece is incomplete. With `is_final`, nothing will be added to the file, so that an
    incomplete piece counts as complete.
    """
    first = next(pieces(start, is_final=is_final), b"")
    return sha256(first).digest()[:FILE_ID_BYTES] if first or is_final else b""


def pieces(data: bytes, *, is_final: bool = False) -> Iterator[bytes]:
    """Yield the complete pieces at the beginning of `data`, which begins at the beginning of a piece.

    With `is_final` nothing will follow the data, so that an incomplete last line is a piece too.
    """
    offset = 0
    while offset < len(data):
        newline = data.find(b"\n", offset, offset + PIECE_BYTES_MAX)
        end = newline + 1 if newline >= 0 else offset + PIECE_BYTES_MAX
        if end > len(data):
            if not is_final:
                return
            end = len(data)
        yield data[offset:end]
        offset = end
