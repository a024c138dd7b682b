"""A watchdog for runs in this process: a run that gets nowhere ends with a reason instead of never.

The event loop itself finds out that nothing is left to happen, or that callbacks follow one another without end at
one instant (`sim.net.loop`). What is left is code that does not return to the loop. The watchdog looks with
a timer
signal, whose handler runs between two instructions of whatever the main thread executes, and raises there. What does
not return to Python at all is ended by `faulthandler`, which prints where it stood.

    with Watchdog() as watchdog, VirtualWorld(lab) as world:
        watchdog.watch(lambda: world.env.now, world.loop)
        world.run()
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final

from sim.engine.stalls import Stalled, stalled
from sim.units import format_duration

SECONDS_MAX: Final = 120.0
"""How long lab time may stand still. What takes longest, reading a full disk at the end, takes a few seconds."""
LOOKS: Final = 8
"""So many looks in that time."""


class _Interrupt(KeyboardInterrupt):
    """Like Ctrl-C: the exception that asyncio and `except Exception` let through."""


class StallWatchdog:
    """Raises Stalled when lab time has not passed for `seconds_max` of real time; in the main thread only."""

    def __init__(self, seconds_max: float = SECONDS_MAX) -> None:
        self._seconds_max = seconds_max
        self._now_ns: Callable[[], int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seen: tuple[int, float] = (-1, time.monotonic())
        self._why: Stalled | None = None

    def watch(self, now_ns: Callable[[], int], loop: asyncio.AbstractEventLoop) -> None:
        """From now on `now_ns()` must rise; `loop` has the tasks that the message names."""
        self._now_ns, self._loop = now_ns, loop

    def __enter__(self) -> StallWatchdog:
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._handler = signal.signal(signal.SIGALRM, self._look)
            every = self._seconds_max / LOOKS
            signal.setitimer(signal.ITIMER_REAL, every, every)
            self._postpone()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._active:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, self._handler)
        if isinstance(error, _Interrupt) and self._why is not None:
            raise self._why from None

    def _postpone(self) -> None:
        faulthandler.dump_traceback_later(2 * self._seconds_max, exit=True)

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        self._postpone()
        now_ns = self._now_ns() if self._now_ns is not None else 0
        seen_ns, since = self._seen
        if now_ns != seen_ns:
            self._seen = now_ns, time.monotonic()
        elif (passed := time.monotonic() - since) >= self._seconds_max:
            self._seen = now_ns, time.monotonic()
            self._why = self._why or self._explain(now_ns, passed, frame)
            raise _Interrupt

    def _explain(self, now_ns: int, passed: float, frame: FrameType | None) -> Stalled:
        why = f"the lab stands at {format_duration(now_ns)} of lab time since {passed:.0f} s of real time"
        if frame is not None:
            why += f", in {frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
        return stalled(why, asyncio.all_tasks(self._loop) if self._loop is not None else ())
