"""Watching the spool while the box runs: verifying what opening did not read, and an alarm when it fills up."""

from __future__ import annotations

import asyncio
from typing import Final

from agents.audit import AuditLog
from agents.buffer import Buffer

FILL_CHECK_SECONDS: Final = 600.0
"""The largest permitted spool takes hours to fill, the smallest at least one of these intervals at usual rates."""
ALARM_AT: Final = 0.8
ALARM_ENDS_BELOW: Final = (
    0.5  # a spool of four segments falls to two thirds each time it drops its oldest one
)


async def watch_spool(buffer: Buffer, audit: AuditLog) -> None:
    """Run until cancelled. Audit records: `spool-nearly-full` and `spool-has-room`, with the fill level in percent.

    Raises SpoolError if the disk is gone.
    """
    await buffer.verify()
    is_nearly_full = False
    while True:
        status = await buffer.status()
        level = status.live_bytes / (
            status.limits.spool_bytes_max - status.limits.segment_bytes
        )  # but the reserve
        if is_nearly_full != (level >= (ALARM_ENDS_BELOW if is_nearly_full else ALARM_AT)):
            is_nearly_full = not is_nearly_full
            event = "spool-nearly-full" if is_nearly_full else "spool-has-room"
            audit.note(event, round(100 * level), unlimited=True)
        await asyncio.sleep(FILL_CHECK_SECONDS)
