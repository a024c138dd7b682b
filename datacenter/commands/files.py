"""The files of commands in the data center: content by its SHA-256, in parts, in the database.

They are kept in tables and not in a folder, so that a command and its file are stored in one transaction, every
process of the data center sees them, and one backup contains both. A part is a range of at most 32 KiB. No more than
READ_PARTS of them are in memory, except when a complete upload is verified. The parts of an upload of a box have a
separate name until then, so that nobody can read a part of it, or change what another box uploads.

The total is limited: the oldest files that no open command needs are removed to make room for new files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from datacenter.store.command_states import SENT, WITHDRAWABLE
from datacenter.store.store import Store
from datacenter.store.tables.schema import commands, file_parts, files
from wire.files import (
    FILE_BYTES_MAX,
    RANGE_BYTES_MAX,
    UP_VERBS,
    FileReference,
    RangeRequest,
    UploadRange,
)

TOTAL_BYTES_MAX: Final = 4 * 2**30
"""Default limit of the total size of all files."""
READ_PARTS: Final = 8
"""Parts that are read or written with one statement."""

_C, _F, _P = commands.c, files.c, file_parts.c


class FileTooLargeError(Exception):
    """The file is empty or exceeds FILE_BYTES_MAX, or there is no room for it. The message names the limit."""


class NoRoomForUploadError(FileTooLargeError):
    """There is no room for the file in addition to the files of open commands."""


class UploadRefusedError(Exception):
    """No open command of this box requests the upload."""


class FileArchive:
    """The files in the database of a store. All methods raise StoreError."""

    def __init__(self, store: Store, bytes_max: int = TOTAL_BYTES_MAX) -> None:
        self._store, self._bytes_max = store, bytes_max

    def keep(self, content: bytes, now_ms: int) -> str:
        """Store a file for an instrument and return its hash; committed on return. Raises: FileTooLargeError."""
        file = BytesIO(content)
        reference = refer_to(file)
        with self._store.transaction() as connection:
            self.add(connection, reference, file, now_ms)
        return reference.sha256

    def add(self, connection: Connection, reference: FileReference, file: BinaryIO, now_ms: int) -> None:
        """Store a file in a transaction, unless it is already stored. Raises: NoRoomForUploadError."""
        if _exists(connection, reference.sha256):
            return
        self._make_room(connection, reference.size)
        file.seek(0)
        for first in range(0, reference.size, READ_PARTS * RANGE_BYTES_MAX):
            block = file.read(READ_PARTS * RANGE_BYTES_MAX)
            parts = [
                {"file": reference.sha256, "position": first + at, "body": block[at : at + RANGE_BYTES_MAX]}
                for at in range(0, len(block), RANGE_BYTES_MAX)
            ]
            connection.execute(insert(file_parts), parts)
        stored = {"sha256": reference.sha256, "bytes": reference.size, "stored_at_ms": now_ms}
        connection.execute(insert(files).values(stored))

    def size(self, sha256: str) -> int | None:
        """Return the size of a complete file in bytes; None if there is none."""
        row = next(self._store.read(select(_F.bytes).where(_F.sha256 == sha256)), None)
        return None if row is None else int(row.bytes)

    def read(self, sha256: str, offset: int = 0, end: int = FILE_BYTES_MAX) -> Iterator[bytes]:
        """Yield the content of a file from `offset` until before `end`; nothing if there is no such file."""
        step = READ_PARTS * RANGE_BYTES_MAX
        while offset < end:
            wanted = RangeRequest(sha256, offset, min(step, end - offset))
            with self._store.transaction() as connection:
                blocks = _range(connection, wanted)
            if not blocks:
                return
            yield blocks
            offset += len(blocks)

    def content(self, sha256: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        return b"".join(self.read(sha256)) or None

    def read_range(self, box: str, wanted: RangeRequest) -> bytes | None:
        """Return a range of a file that an open command of the box needs, and record the progress; None otherwise."""
        needs = (_C.box == box, _C.file == wanted.sha256, _C.state.in_(SENT), _C.verb.not_in(UP_VERBS))
        with self._store.transaction() as connection:
            if connection.scalar(select(_C.id).where(*needs).limit(1)) is None:
                return None
            blocks = _range(connection, wanted)
            reached = wanted.offset + len(blocks)
            connection.execute(
                update(commands)
                .where(*needs, _C.transferred_bytes < reached)
                .values(transferred_bytes=reached)
            )
        return blocks or None

    def receive(self, box: str, upload: UploadRange, body: bytes, now_ms: int) -> int:
        """Store a range of an upload, if it is the next one, and return the number of bytes received; committed.

        When it is complete, the content is verified: if it has another hash, the upload begins again at 0.

        Raises: UploadRefusedError, FileTooLargeError, with nothing changed.
        """
        with self._store.transaction() as connection:
            command = connection.execute(
                select(commands).where(_C.id == upload.command, _C.box == box)
            ).first()
            if command is None or command.verb not in UP_VERBS:
                raise UploadRefusedError
            if command.file == upload.sha256 and _exists(connection, upload.sha256):
                _complete(connection, upload.command, now_ms)
                return upload.size
            if command.state not in SENT:
                raise UploadRefusedError
            received = self._begin(connection, command, upload)
            if body and upload.offset == received and received + len(body) <= upload.size:
                part = {"file": _name(upload.command), "position": received, "body": body}
                connection.execute(insert(file_parts).values(part))
                received += len(body)
            if received == upload.size:
                received = self._verify(connection, upload, now_ms)
            connection.execute(
                update(commands).where(_C.id == upload.command).values(transferred_bytes=received)
            )
        return received

    def _begin(self, connection: Connection, command: object, upload: UploadRange) -> int:
        """Return the number of stored bytes of an upload; a file that differs from the previous one begins at 0."""
        if command.file == upload.sha256 and command.file_bytes == upload.size:  # type: ignore[attr-defined]
            return int(command.transferred_bytes)  # type: ignore[attr-defined]
        connection.execute(delete(file_parts).where(_P.file == _name(upload.command)))
        self._make_room(connection, upload.size)
        values = {"file": upload.sha256, "file_bytes": upload.size, "transferred_bytes": 0}
        connection.execute(update(commands).where(_C.id == upload.command).values(**values))
        return 0

    def _verify(self, connection: Connection, upload: UploadRange, now_ms: int) -> int:
        name = _name(upload.command)
        parts = select(_P.body).where(_P.file == name).order_by(_P.position)
        digest = hashlib.sha256(b"".join(bytes(body) for (body,) in connection.execute(parts))).hexdigest()
        is_intact = digest == upload.sha256
        if is_intact and not _exists(connection, digest):
            connection.execute(update(file_parts).where(_P.file == name).values(file=digest))
            connection.execute(insert(files).values(sha256=digest, bytes=upload.size, stored_at_ms=now_ms))
        connection.execute(delete(file_parts).where(_P.file == name))
        if is_intact:
            _complete(connection, upload.command, now_ms)
        return upload.size if is_intact else 0

    def _make_room(self, connection: Connection, size: int) -> None:
        """Remove the oldest files that no open command needs. Raises: FileTooLargeError if that does not suffice."""
        is_open = (*WITHDRAWABLE, *SENT)
        awaited = select(func.coalesce(func.sum(_C.file_bytes), 0)).where(
            _C.verb.in_(UP_VERBS), _C.state.in_(is_open), _C.file.not_in(select(_F.sha256))
        )
        total = connection.scalar(select(func.coalesce(func.sum(_F.bytes), 0))) or 0
        excess = int(total) + int(connection.scalar(awaited) or 0) + size - self._bytes_max
        if excess <= 0:
            return
        needed = select(_C.file).where(_C.state.in_(is_open), _C.file.is_not(None))
        removable = select(_F.sha256, _F.bytes).where(_F.sha256.not_in(needed)).order_by(_F.stored_at_ms)
        for sha256, size_bytes in connection.execute(removable).all():
            if excess > 0:
                connection.execute(delete(files).where(_F.sha256 == sha256))
                connection.execute(delete(file_parts).where(_P.file == sha256))
                excess -= size_bytes
        if excess > 0:
            raise NoRoomForUploadError(
                "the files of open commands fill the limit of the data center; wait until some are done, or "
                "withdraw some"
            )


def refer_to(file: BinaryIO) -> FileReference:
    """Return the hash and size of a seekable file. Raises: FileTooLargeError."""
    size = file.seek(0, os.SEEK_END)
    if not 1 <= size <= FILE_BYTES_MAX:
        raise FileTooLargeError(f"the file has {size:,} bytes; send one of 1 to {FILE_BYTES_MAX:,} bytes")
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(READ_PARTS * RANGE_BYTES_MAX):
        digest.update(block)
    return FileReference(digest.hexdigest(), size)


def _complete(connection: Connection, command: int, now_ms: int) -> None:
    """Close a command whose instrument reported that it is done, and whose file has now arrived."""
    reported = (_C.id == command, _C.state == "executing", _C.outcome == "done")
    connection.execute(update(commands).where(*reported).values(state="done", closed_at_ms=now_ms))


def _range(connection: Connection, wanted: RangeRequest) -> bytes:
    """Return the stored bytes of a range."""
    first = select(func.max(_P.position)).where(_P.file == wanted.sha256, _P.position <= wanted.offset)
    parts = select(_P.position, _P.body).where(
        _P.file == wanted.sha256,
        _P.position >= first.scalar_subquery(),
        _P.position < wanted.offset + wanted.length,
    )
    rows = connection.execute(parts.order_by(_P.position)).all()
    if not rows:
        return b""
    skipped = wanted.offset - rows[0].position
    return b"".join(bytes(part.body) for part in rows)[skipped : skipped + wanted.length]


def _exists(connection: Connection, sha256: str) -> bool:
    return connection.scalar(select(_F.sha256).where(_F.sha256 == sha256)) is not None


def _name(command: int) -> str:
    """Return the name of the parts of an upload that is not verified yet."""
    return f"upload-{command}"
