"""Reads logs of the box into the chain of audit records, with a bounded share of the uplink and the spool.

Lines wait in the files of the log while the spool has too many of them: the log itself is the larger buffer. Their
rate is limited because audit records precede routine reports on the uplink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from agents.box.audit.chain import ENTRIES_PER_GROUP_MAX
from agents.box.audit.log_cursor import SESSIONS, SYSTEM, LogSource
from agents.box.audit.log_reader import LogPiece, LogProblem, LogProblemKind, LogReader
from agents.box.buffer import Buffer
from agents.box.health.audit import AuditLog
from agents.spool import Priority, SpoolError
from hal.disk import DiskError
from wire.audit_events import AuditEvent
from wire.process.ratelimit import TokenBucket

T = TypeVar("T")
POLL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 60.0
CHECK_SECONDS: Final = 3600.0
"""Interval at which the order of the files, and the content of one file, are verified."""
BURST_BYTES: Final = 256 * 1024
GROUP_BYTES: Final = 16 * 1024
_UNREADABLE: Final = {
    SYSTEM: AuditEvent.AUDIT_LOG_UNREADABLE,
    SESSIONS: AuditEvent.SESSION_LOG_UNREADABLE,
}
_REPEATED: Final = {SYSTEM: AuditEvent.AUDIT_LOG_REPEATED, SESSIONS: AuditEvent.SESSION_LOG_REPEATED}
_EVENTS: Final = {
    LogProblemKind.CUT: AuditEvent.AUDIT_LOG_CUT,
    LogProblemKind.CHANGED: AuditEvent.AUDIT_LOG_CHANGED,
    LogProblemKind.REORDERED: AuditEvent.AUDIT_LOG_CHANGED,
    LogProblemKind.LOST: AuditEvent.AUDIT_LOG_LOST,
    LogProblemKind.REMOVED: AuditEvent.AUDIT_LOG_REMOVED,
}


class LogTail:
    """Stores the lines of one log. The cursor of `reader` moves when they are durable."""

    def __init__(
        self,
        reader: LogReader,
        audit: AuditLog,
        buffer: Buffer,
        *,
        source: LogSource = SYSTEM,
        bytes_per_second: float,
        waiting_bytes_max: int,
        executor: Executor | None = None,
    ) -> None:
        """`waiting_bytes_max` limits the audit records that wait in the spool while lines are added to them.

        `executor` runs the blocking calls of the reader; None is the event loop's default executor.
        """
        self._reader, self._audit, self._buffer, self._executor = reader, audit, buffer, executor
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._rate = TokenBucket(bytes_per_second, BURST_BYTES)
        self._waiting_bytes_max = waiting_bytes_max
        self._checked_at = -CHECK_SECONDS
        self._to_verify: list[bytes] = []

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self._resume()
                while True:
                    await self._check()
                    if not await self._store_next():
                        await asyncio.sleep(POLL_SECONDS)
            except DiskError:
                self._audit.note(_UNREADABLE[self._source])
            except SpoolError:
                pass  # the lines wait in the log
            await asyncio.sleep(RETRY_SECONDS)

    async def _resume(self) -> None:
        """After lines were lost in the spool, record that they are read again."""
        if self._reader.cursor.is_incomplete:
            await self._audit.record(_REPEATED[self._source])
            self._reader.cursor.is_incomplete = False

    async def _check(self) -> None:
        """Every CHECK_SECONDS, check the order of the files and verify one of them, the newest first."""
        now = self._loop.time()
        if now < self._checked_at + CHECK_SECONDS:
            return
        self._checked_at = now
        await self._report(await self._call(self._reader.check_order))
        marks = self._reader.cursor.marks
        self._to_verify = [file for file in self._to_verify if file in marks] or list(marks)
        if self._to_verify:
            file = self._to_verify.pop()
            problem = await self._call(lambda: self._reader.verify(file))
            await self._report([problem] if problem else [])

    async def _store_next(self) -> bool:
        """Store the next pieces; return whether there were any."""
        waiting = (await self._buffer.status()).bytes[Priority.AUDIT]
        if waiting > self._waiting_bytes_max:
            return False
        pieces, problems = await self._call(lambda: self._reader.read(GROUP_BYTES))
        await self._report(problems)
        for offset in range(0, len(pieces), ENTRIES_PER_GROUP_MAX):
            await self._store(pieces[offset : offset + ENTRIES_PER_GROUP_MAX])
        return bool(pieces or problems)

    async def _store(self, pieces: list[LogPiece]) -> None:
        if seconds := self._rate.take(sum(len(piece.content) for piece in pieces), self._loop.time()):
            await asyncio.sleep(seconds)
        await self._audit.record_lines(self._source, pieces)
        for piece in pieces:
            self._reader.cursor.accept(*piece)

    async def _report(self, problems: list[LogProblem]) -> None:
        for problem in problems:
            is_system = self._source == SYSTEM
            event = _EVENTS[problem.kind] if is_system else AuditEvent.SESSION_LOG_CHANGED
            await self._audit.record(event, problem.amount)

    async def _call(self, call: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._executor, call)
