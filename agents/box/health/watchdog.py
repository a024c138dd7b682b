"""Feeds the hardware watchdog while the event loop runs and the spool responds.

If the disk hangs, the spool does not respond and the machine is reset. A clean end stops the watchdog. After any
other end it keeps running, so that the machine is also reset if the program cannot be restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from agents.box.buffer import Buffer
from agents.box.health.audit import AuditLog
from hal.watchdog import Watchdog, WatchdogError
from wire.audit_events import AuditEvent

FEEDS_PER_TIMEOUT: Final = 4


async def feed_while_healthy(watchdog: Watchdog, timeout_s: int, buffer: Buffer, audit: AuditLog) -> None:
    """Feed the watchdog until cancelled. If it fails, record that and return: the box runs without it."""
    try:
        armed = watchdog.start(timeout_s)
    except WatchdogError:
        audit.note(AuditEvent.WATCHDOG_NOT_STARTED)
        return
    if armed.caused_last_reset:
        audit.note(AuditEvent.WATCHDOG_RESET)
    try:
        while True:
            if await _spool_responds(buffer):
                watchdog.feed()
            await asyncio.sleep(armed.timeout_seconds / FEEDS_PER_TIMEOUT)
    except WatchdogError:
        audit.note(AuditEvent.WATCHDOG_FAILED)
    except asyncio.CancelledError:
        with contextlib.suppress(WatchdogError):  # some watchdogs cannot be stopped
            watchdog.stop()
        raise


async def _spool_responds(buffer: Buffer) -> bool:
    """Return whether the spool responds. An error must not end the loop that feeds the watchdog."""
    try:
        await buffer.status()
    except Exception as error:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "the spool does not respond", "exception": error})
        return False
    return True
