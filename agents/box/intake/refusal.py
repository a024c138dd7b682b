"""What the box does while its disk takes no records, such as a file system that has become read-only.

What waits is delivered all the same, and new reports are refused, so that instruments keep them. Nothing can be
written to the audit log then; the alarm LED, the status and standard error (the system's journal) show it. A try to
write the audit record every few seconds finds out when the disk takes records again, and is the record of it.
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
"""How often a disk that took no records is tried again."""


async def watch_refusals(
    buffer: Buffer, audit: AuditLog, show: Callable[[Light], None], say: Callable[[str], object]
) -> None:
    """Run until cancelled. The audit record `spool-writable` has the seconds that the disk took nothing."""
    loop = asyncio.get_running_loop()
    while True:
        await buffer.refusing.wait()
        since = loop.time()
        show(Light.FAST)
        say(f"the spool takes no records: {buffer.problem}; reports are refused, and what waits is delivered")
        try:
            await _until_writable(buffer, audit, since)
        finally:
            show(Light.OFF)
        say("the spool takes records again")


async def _until_writable(buffer: Buffer, audit: AuditLog, since: float) -> None:
    loop, is_recorded = asyncio.get_running_loop(), False
    while buffer.problem is not None or not is_recorded:
        await asyncio.sleep(RETRY_SECONDS)
        # a full spool has an alarm of its own, and gets no records that may never be dropped
        if buffer.problem is not None and buffer.problem.kind is SpoolErrorKind.FULL:
            is_recorded = True
            continue
        with suppress(SpoolError):
            await audit.record(AuditEvent.SPOOL_WRITABLE, round(loop.time() - since))
            is_recorded = True
