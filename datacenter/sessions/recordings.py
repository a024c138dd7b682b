"""The recordings of sessions: a file for each, in a folder of the data center."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from sqlalchemy import and_, select, update

from datacenter.desktop.recording import RecordingWriter
from datacenter.store.store import Store
from datacenter.store.tables.schema import remote_sessions
from wire.process.folders import sync_folder

SUFFIX: Final = ".rapr"
_log: Final = logging.getLogger(__name__)


def recording_path(folder: Path, session: bytes) -> Path:
    """Return the file of the recording of a session."""
    return folder / f"{session.hex()}{SUFFIX}"


def head_path(recording: Path) -> Path:
    """Return the file of the signed head of a recording."""
    return recording.with_suffix(".head")


def delete_recordings(store: Store, folder: Path, before_ms: int, now_ms: int) -> int:
    """Delete the recordings of sessions that ended before a time; return their number.

    Raises: StoreError; OSError.
    """
    s = remote_sessions.c
    is_old = and_(s.ended_at_ms < before_ms, s.recording_deleted_at_ms.is_(None))
    old = [row.id for row in store.read(select(s.id).where(is_old))]
    for session in old:
        path = recording_path(folder, bytes.fromhex(session))
        for file in (path, head_path(path)):
            file.unlink(missing_ok=True)
    if old:
        with store.transaction() as connection:
            deleted = update(remote_sessions).where(is_old).values(recording_deleted_at_ms=now_ms)
            connection.execute(deleted)
    return len(old)


class FileRecording:
    """A `SessionRecording` in a new file, whose beginning is durable before the session opens."""

    def __init__(self, path: Path, executor: Executor | None = None) -> None:
        """Create the file; it must not exist. After a disk error it is unwritable."""
        self._path, self._executor = path, executor
        self._file: BinaryIO | None = None
        self._writer: RecordingWriter | None = None
        try:
            self._file = path.open("xb")
            self._writer = RecordingWriter(self._file)
            self._sync()
            sync_folder(path.parent)
        except OSError as error:
            self._failed(error)

    @property
    def is_writable(self) -> bool:
        """See `SessionRecording.is_writable`; false once a write has failed."""
        return self._writer is not None

    def add(self, part: bytes) -> None:
        """See `datacenter.desktop.receiver.StreamRecorder.add`."""
        if self._writer is None:
            raise OSError(f"{self._path.name}: the recording cannot be written")
        try:
            self._writer.add(part)
        except OSError as error:
            self._failed(error)
            raise

    async def flush(self) -> None:
        """Make the added data durable. Raises: OSError."""
        if self._writer is None:
            raise OSError(f"{self._path.name}: the recording cannot be written")
        try:
            self._writer.flush()
            await asyncio.get_running_loop().run_in_executor(self._executor, self._sync)
        except OSError as error:
            self._failed(error)
            raise

    async def close(self) -> bytes:
        """See `SessionRecording.close`."""
        writer, self._writer = self._writer, None
        recorded = b""
        if writer is not None:
            try:
                chain = writer.end()
                await asyncio.get_running_loop().run_in_executor(self._executor, self._sync)
                recorded = chain
            except OSError as error:
                self._failed(error)
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        return recorded

    def _sync(self) -> None:
        assert self._file is not None, "opened before"
        self._file.flush()
        os.fsync(self._file.fileno())

    def _failed(self, error: OSError) -> None:
        self._writer = None
        _log.error("the recording %s cannot be written: %s", self._path, error)
