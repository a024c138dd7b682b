"""The time that a lab's supervisor has for what it is doing: to start, to run, to judge.

A thread watches it, because what hangs may be a system call of the event loop's own thread: a disk that does not
answer, a program that cannot be killed. When the time is over, whoever waits for the lab is given the reason, with
the place where the supervisor stands, and the lab is ended.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

from sim.engine.stalls import Stalled, stalled


class Deadline:
    """One at a time; `expired` is called, in a thread of its own, with what the lab hangs in."""

    def __init__(self, expired: Callable[[Stalled], object]) -> None:
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._main = threading.get_ident()
        self._timer: threading.Timer | None = None

    def within(self, seconds: float, doing: str) -> None:
        """From now on the lab is `doing` something for which it has so many seconds."""
        self.cancel()
        began = time.monotonic()
        self._timer = threading.Timer(seconds, self._expire, (seconds, doing, began))
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """From now on the lab has any time it likes."""
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
