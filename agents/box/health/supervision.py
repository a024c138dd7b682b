"""Supervision of the box's parts: an error in one part affects only that part and never ends the program.

A part is a coroutine that runs until it is cancelled. After an error it is restarted, each time after a longer pause;
the other parts continue. The traceback goes to the event loop's exception handler, `part-failed-NAME` to the audit
log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from agents.box.health.audit import AuditLog
from wire.audit_events import AuditEvent
from wire.dial.backoff import Backoff

STEADY_SECONDS: Final = 300.0
"""Run time after which an error of a part is followed by the shortest pause before the restart."""


async def keep_running(
    name: str, part: Callable[[], Awaitable[None]], audit: AuditLog, random: Random, *, port: int = 0
) -> None:
    """Run `part`, restarting it after errors, until it returns or is cancelled."""
    loop, backoff = asyncio.get_running_loop(), Backoff(random)
    while True:
        begun_at = loop.time()
        try:
            await part()
            return
        except Exception as error:
            loop.call_exception_handler({"message": f"part {name} of the box failed", "exception": error})
            audit.note(AuditEvent(f"part-failed-{name}"), port=port)
        if loop.time() - begun_at >= STEADY_SECONDS:
            backoff.succeeded()
        await asyncio.sleep(backoff.failed())
