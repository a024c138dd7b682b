"""Monitors refused writes, for example after the file system has become read-only.

During this time, waiting records are still delivered, and new reports are refused, so that instruments keep them.
The audit log cannot be written; the alarm LED, the status and standard error (the system's journal) show the problem.
Writing the audit record of the recovery is tried every RETRY_SECONDS, which detects that the disk works again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agents.box.buffer import Buffer
from agents.box.health.audit import AuditLog
from agents.spool import SpoolError, SpoolErrorKind
from hal.indicators import Light
from wire.audit_events import AuditEvent

RETRY_SECONDS: Final = 10.0
"""Interval of attempts to write to a disk that refuses writes."""


async def watch_refusals(
    buffer: Buffer, audit: AuditLog, show: Callable[[Light], None], log_message: Callable[[str], object]
) -> None:
    """Report refused writes until cancelled. The audit record `spool-writable` has the duration in seconds."""
    loop = asyncio.get_running_loop()
    while True:
        await buffer.refusing.wait()
        since = loop.time()
        show(Light.FAST)
        log_message(
            f"the spool accepts no records: {buffer.problem}; reports are refused, waiting records are delivered"
        )
        try:
            await _until_writable(buffer, audit, since)
        finally:
            show(Light.OFF)
        log_message("the spool accepts records again")


async def _until_writable(buffer: Buffer, audit: AuditLog, since: float) -> None:
    loop, is_recorded = asyncio.get_running_loop(), False
    while buffer.problem is not None or not is_recorded:
        await asyncio.sleep(RETRY_SECONDS)
        # a full spool has its own alarm; do not add an audit record, which is never dropped
        if buffer.problem is not None and buffer.problem.kind is SpoolErrorKind.FULL:
            is_recorded = True
            continue
        with suppress(SpoolError):
            await audit.record(AuditEvent.SPOOL_WRITABLE, round(loop.time() - since))
            is_recorded = True
