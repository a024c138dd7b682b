"""Time limits for the phases of a lab: its start, its run, its evaluation.

A separate thread watches the limit, because the event loop's thread may be blocked in a system call: by a disk that
does not answer, or a program that cannot be killed. When the limit is exceeded, the lab is ended, and the process
that waits for it gets the reason and the stack of the supervisor.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

from sim.engine.stalls import Stalled, stalled


class TimeLimit:
    """One time limit at a time. `expired` is called in a separate thread, with a description of the stall."""

    def __init__(self, expired: Callable[[Stalled], object]) -> None:
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._main = threading.get_ident()
        self._timer: threading.Timer | None = None

    def within(self, seconds: float, doing: str) -> None:
        """Set a time limit for the current phase, which `doing` describes ("starting the lab")."""
        self.cancel()
        began = time.monotonic()
        self._timer = threading.Timer(seconds, self._expire, (seconds, doing, began))
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Remove the time limit."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _expire(self, seconds: float, doing: str, began: float) -> None:
        passed = time.monotonic() - began
        why = f"{doing} has taken {passed:.0f} s, and should take {seconds:.0f} s at most; the supervisor is in\n"
        frame = sys._current_frames().get(self._main)
        if frame is not None:
            why += "".join(traceback.format_stack(frame)[-3:]).rstrip()
        self._expired(stalled(why, asyncio.all_tasks(self._loop)))
