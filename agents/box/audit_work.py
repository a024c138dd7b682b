"""The work of auditing on a box: logs that are read into the chain, and the countersigned head."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from agents.box.audit.log_cursor import SESSIONS, SYSTEM
from agents.box.audit.log_reader import LogReader
from agents.box.buffer import Buffer
from agents.box.configuration.config import BoxConfig
from agents.box.files.requests import RequestQueue
from agents.box.hardware import Hardware
from agents.box.health.audit import AuditLog
from agents.box.health.audit_tail import RETRY_SECONDS, LogTail
from agents.box.health.countersigning import Countersigning
from agents.box.sessions.running import serial_of
from agents.box.state import BoxState
from agents.spool import SpoolError
from hal.disk import DiskError
from wire.audit_head import head_text
from wire.pki.signature import load_public_keys

SYSTEM_LOG: Final = "audit.log"
"""The newest file of the operating system's audit log."""
SESSIONS_AUDIT: Final = "sessions.audit"
"""The audit file of remote sessions, in the folder of the spool."""
SESSIONS_BYTES_PER_SECOND: Final = 4096.0
SPOOL_SHARE: Final = 1 / 8
"""The part of the spool that audit records may fill before lines wait in the logs."""


class AuditStatus(msgspec.Struct, frozen=True):
    """The chain of audit records, and its newest head that the data center has countersigned."""

    chain: int
    """The epoch of the spool, which is the chain's name."""
    record: int
    """The number of the last record."""
    countersigned: str = ""
    """The newest head that the data center has countersigned, as `rap dc audit verify --box-head` takes it; empty if
    none of this chain was countersigned."""
    countersigned_s: float = 0.0
    """The time of this countersignature, in seconds since 1970."""


class AuditWork:
    """Reads the logs into the chain, and gets the head of the chain countersigned."""

    def __init__(
        self, tails: Sequence[LogTail], heads: Countersigning | None, audit: AuditLog, buffer: Buffer
    ) -> None:
        self._tails, self.heads, self._audit, self._buffer = tails, heads, audit, buffer

    @property
    def requests(self) -> tuple[RequestQueue, ...]:
        """The requests to the data center."""
        return () if self.heads is None else (self.heads,)

    @property
    def status(self) -> AuditStatus:
        """The current state."""
        chain, record = self._buffer.epoch, self._audit.chain.head.number
        newest = self.heads.newest if self.heads else None
        if newest is None or newest.head.epoch != chain:
            return AuditStatus(chain, record)
        return AuditStatus(chain, record, head_text(newest.box, newest.head), newest.at_ms / 1000)

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for tail in self._tails:
                tasks.create_task(tail.run())
            if self.heads is not None:
                tasks.create_task(_load(self.heads))


async def _load(heads: Countersigning) -> None:
    while True:
        try:
            return await heads.load()
        except (DiskError, SpoolError):
            await asyncio.sleep(RETRY_SECONDS)


def make_audit_work(
    config: BoxConfig, hardware: Hardware, state: BoxState, audit: AuditLog, buffer: Buffer
) -> AuditWork | None:
    """Return the work of [audit] and [sessions]; None without these tables.

    Call it before anything is appended to the chain. Raises: OSError, ValueError for unusable keys.
    """
    settings = config.audit
    waiting_bytes_max = int(config.spool.bytes_max * SPOOL_SHARE)
    tails: list[LogTail] = []
    heads = None
    if settings is not None:
        assert hardware.audit_log is not None, "it is given with [audit]"
        cursor = state.log_cursor(SYSTEM)
        tails.append(
            LogTail(
                LogReader(hardware.audit_log, SYSTEM_LOG, cursor, settings.files_max),
                audit,
                buffer,
                bytes_per_second=settings.bytes_per_second,
                waiting_bytes_max=waiting_bytes_max,
            )
        )
        if settings.keys is not None:
            box, keys = serial_of(config.identity.certificate), load_public_keys(settings.keys)
            heads = Countersigning(box, keys, hardware.disk, buffer, audit)
    if hardware.sessions is not None and hardware.sessions.log_folder is not None:
        tails.append(
            LogTail(
                LogReader(hardware.sessions.log_folder, SESSIONS_AUDIT, state.log_cursor(SESSIONS)),
                audit,
                buffer,
                source=SESSIONS,
                bytes_per_second=SESSIONS_BYTES_PER_SECOND,
                waiting_bytes_max=waiting_bytes_max,
            )
        )
    return AuditWork(tails, heads, audit, buffer) if tails else None
