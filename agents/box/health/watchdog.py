"""The watchdog is fed as long as the box is well: the event loop turns, and the spool answers.

A disk that hangs does not answer, and then the machine is reset. A clean end stops the watchdog; after any other it
runs on, so that a program that cannot be started again ends in a reset too.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from agents.box.buffer import Buffer
from agents.box.health.audit import AuditLog
from hal.watchdog import Watchdog, WatchdogError
from wire.audit_events import AuditEvent

FEEDS_IN_TIMEOUT: Final = 4


async def feed_while_well(watchdog: Watchdog, timeout_s: int, buffer: Buffer, audit: AuditLog) -> None:
    """Feed until cancelled. A watchdog that does not work is noted, and the box goes on without."""
    try:
        armed = watchdog.start(timeout_s)
    except WatchdogError:
        audit.note(AuditEvent.WATCHDOG_NOT_STARTED)
        return
    if armed.caused_last_reset:
        audit.note(AuditEvent.WATCHDOG_RESET)
    try:
        while True:
            if await _answers(buffer):
                watchdog.feed()
            await asyncio.sleep(armed.timeout_seconds / FEEDS_IN_TIMEOUT)
    except WatchdogError:
        audit.note(AuditEvent.WATCHDOG_FAILED)
    except asyncio.CancelledError:
        with contextlib.suppress(WatchdogError):  # one that nobody can stop
            watchdog.stop()
        raise


async def _answers(buffer: Buffer) -> bool:
    """Whether the spool works. An error of whatever kind is none of the feeder's, which must go on asking."""
    try:
        await buffer.status()
    except Exception as error:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "the spool does not answer", "exception": error})
        return False
    return True
