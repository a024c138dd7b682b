"""Reads the files of a rotated log by a cursor: each line once, in the order in which they were written.

The files are NAME, NAME.1, NAME.2, …; the one with the highest number is the oldest. A file may be renamed between
two calls, so content that was read is used only if the name still refers to the same file afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from agents.box.audit.log_cursor import (
    PIECE_BYTES_MAX,
    START,
    LogCursor,
    LogMark,
    file_identity,
    link,
    pieces,
)
from hal.disk import DiskError, DiskErrorKind

READ_BYTES_MAX: Final = 64 * 1024


class LogFolder(Protocol):
    """The folder of a log, for reading; a `hal.disk.Disk` satisfies this protocol."""

    def names(self) -> list[str]:
        """Return the names of all files. Raises: DiskError."""
        ...

    def size(self, name: str) -> int:
        """Return the size of a file in bytes. Raises: DiskError."""
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return the bytes at `offset`, all of which are in the file. Raises: DiskError."""
        ...


class LogPiece(NamedTuple):
    """A piece of a log file."""

    file: bytes
    offset: int
    content: bytes


class LogProblemKind(StrEnum):
    """The kinds of problems with the files of a log."""

    CUT = "cut"  # a file is shorter than the part of it that was read
    CHANGED = "changed"  # the part of a file that was read has changed
    LOST = "lost"  # a file was removed, perhaps with unread lines, or although an older one exists
    REMOVED = (
        "removed"  # the oldest files were removed, although the rotation keeps more; their lines were read
    )
    REORDERED = "reordered"  # files have been swapped


class LogProblem(NamedTuple):
    """A problem; `amount` is the number of bytes that were cut, otherwise the number of files."""

    kind: LogProblemKind
    amount: int


class LogReader:
    """Reads one log. The caller moves the cursor over what it has stored, by `LogCursor.accept`."""

    def __init__(self, folder: LogFolder, name: str, cursor: LogCursor, files_max: int = 0) -> None:
        """`files_max` is the number of files beyond which the rotation removes the oldest; 0 if unknown."""
        self._folder, self._name, self.cursor, self._files_max = folder, name, cursor, files_max

    def read(self, bytes_max: int = READ_BYTES_MAX) -> tuple[list[LogPiece], list[LogProblem]]:
        """Return the next pieces, of at most `bytes_max` bytes together, and the problems detected.

        No piece is returned while the log is being rotated, or when there is nothing new. Raises: DiskError IO,
        UNAVAILABLE.
        """
        try:
            newest = self._identity(self._name)
            if newest and newest == self.cursor.newest:
                return self._read_file(self._name, newest, bytes_max, is_final=False)
            return self._read_oldest(bytes_max)
        except DiskError as error:
            if error.kind is not DiskErrorKind.MISSING:
                raise
            return [], []

    def check_order(self) -> list[LogProblem]:
        """Compare the files with those that were read: whether any is missing or has been moved.

        Raises: DiskError IO, UNAVAILABLE.
        """
        try:
            files = self._files()
            return self._order_problems([file for _, file in files]) if files == self._files() else []
        except DiskError as error:
            if error.kind is not DiskErrorKind.MISSING:
                raise
            return []

    def verify(self, file: bytes) -> LogProblem | None:
        """Compare a file, if it exists, with the part of it that was read. Raises: DiskError IO, UNAVAILABLE."""
        try:
            for name, identity in self._files():
                if identity == file:
                    return self._verify(name, file)
        except DiskError as error:
            if error.kind is not DiskErrorKind.MISSING:
                raise
        return None

    # -- which file -------------------------------------------------------------------------------------

    def _read_oldest(self, bytes_max: int) -> tuple[list[LogPiece], list[LogProblem]]:
        """Read the oldest file that was not read to its end."""
        files = self._files()
        if files != self._files():
            return [], []  # the log is being rotated
        problems = self._order_problems([file for _, file in files])
        for index, (name, file) in enumerate(files):
            is_final = index + 1 < len(files)
            content, file_problems = self._read_file(name, file, bytes_max, is_final=is_final)
            problems += file_problems
            if content or problems:
                return content, problems
        return [], problems

    def _order_problems(self, files: list[bytes]) -> list[LogProblem]:
        """Compare the files with those that were read, and delete the marks of removed files.

        The oldest files are removed when the log is rotated: reading of a file begins only after the previous file
        was read completely, so nothing is lost. If fewer files remain than the rotation keeps, or a file is missing
        while an older one exists, another program or a person removed files. An unknown file that
        is older than a known one was added, or its first line was changed.
        """
        marks, problems = self.cursor.marks, []
        order = [file for file in files if file in marks]
        known = [file for file in marks if file in files]
        after_oldest = list(marks)[list(marks).index(known[0]) :] if known else [self.cursor.newest]
        if lost := [file for file in after_oldest if file and file not in files]:
            problems.append(LogProblem(LogProblemKind.LOST, len(lost)))
        elif known and (removed := list(marks).index(known[0])) and self._has_room():
            problems.append(LogProblem(LogProblemKind.REMOVED, removed))
        if known != order:
            problems.append(LogProblem(LogProblemKind.REORDERED, len(known)))
        if known and (added := sum(file not in marks for file in files[: files.index(order[-1])])):
            problems.append(LogProblem(LogProblemKind.CHANGED, added))
        self.cursor.marks = {file: marks[file] for file in order}
        return problems

    def _has_room(self) -> bool:
        """Return whether the log has fewer files than the rotation keeps; False while it is being rotated."""
        numbers = sorted(number for number, _ in self._numbered())
        return numbers == list(range(len(numbers))) and len(numbers) < self._files_max

    def _files(self) -> list[tuple[str, bytes]]:
        """Return the names and identities of the files, the oldest first."""
        files = [(name, self._identity(name)) for _, name in sorted(self._numbered(), reverse=True)]
        return [(name, file) for name, file in files if file]

    def _numbered(self) -> list[tuple[int, str]]:
        """Return the numbers and names of the files; the newest has the number 0."""
        numbers = []
        for name in self._folder.names():
            ending = name.removeprefix(self._name)
            if name == self._name:
                numbers.append((0, name))
            elif name.startswith(self._name) and ending[:1] == "." and ending[1:].isdecimal():
                numbers.append((int(ending[1:]), name))
        return numbers

    def _identity(self, name: str) -> bytes:
        length = min(self._folder.size(name), PIECE_BYTES_MAX)
        return file_identity(self._folder.read(name, 0, length), is_final=name != self._name)

    # -- one file ---------------------------------------------------------------------------------------

    def _read_file(
        self, name: str, file: bytes, bytes_max: int, *, is_final: bool
    ) -> tuple[list[LogPiece], list[LogProblem]]:
        mark, size = self.cursor.marks.get(file) or LogMark(), self._folder.size(name)
        if size < mark.offset:
            problem = self._cut(name, file, mark, size)
            return [], [problem] if problem else []
        length = min(size - mark.offset, max(bytes_max, PIECE_BYTES_MAX))
        content = self._folder.read(name, mark.offset, length)
        if self._identity(name) != file:
            return [], []
        is_final = is_final and mark.offset + length == size
        return list(_with_offsets(file, mark.offset, pieces(content, is_final=is_final))), []

    def _cut(self, name: str, file: bytes, mark: LogMark, size: int) -> LogProblem | None:
        """Continue at the end of a file that became shorter; None if the name now refers to another file."""
        if self._identity(name) != file:
            return None
        problem = LogProblem(LogProblemKind.CUT, mark.offset - size)
        mark.start, mark.offset, mark.digest = size, size, START
        return problem

    def _verify(self, name: str, file: bytes) -> LogProblem | None:
        """Read a file again. After a problem the mark covers nothing, so that the problem is reported once.

        Content added to a file that had been read to its end is not read, because auditd did not write it.
        """
        mark, size = self.cursor.mark(file), self._folder.size(name)
        if size < mark.offset:
            return self._cut(name, file, mark, size)
        offset, digest = mark.start, START
        while offset < mark.offset:
            length = min(mark.offset - offset, READ_BYTES_MAX)
            is_final = offset + length == mark.offset
            for piece in pieces(self._folder.read(name, offset, length), is_final=is_final):
                offset += len(piece)
                digest = link(digest, piece)
        is_added_to = file != self.cursor.newest and size > mark.offset  # it had been read to its end
        if (digest == mark.digest and not is_added_to) or self._identity(name) != file:
            return None
        if is_added_to:
            mark.offset = size
        mark.start, mark.digest = mark.offset, START
        return LogProblem(LogProblemKind.CHANGED, 1)


def _with_offsets(file: bytes, offset: int, contents: Iterator[bytes]) -> Iterator[LogPiece]:
    for content in contents:
        yield LogPiece(file, offset, content)
        offset += len(content)
