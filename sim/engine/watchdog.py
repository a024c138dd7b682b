"""A watchdog that ends a run whose lab time no longer advances, with a message that says where it is stuck.

The event loop detects that no event is left, and that callbacks follow one another endlessly at one instant
(`sim.engine.loop`). The watchdog detects code that does not return to the loop. It checks the time on a timer signal,
whose handler runs between two instructions of the main thread, and raises an exception there. Code that does not
return to the interpreter at all is ended by `faulthandler`, which prints the stack of each thread and exits.

    with StallWatchdog() as watchdog, VirtualWorld(lab) as world:
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
"""The maximum real time without an advance of lab time. Reading a full disk at the end, the longest legitimate pause,
takes seconds.
"""
CHECKS: Final = 8
"""The number of checks of lab time in SECONDS_MAX."""


class _Interrupt(KeyboardInterrupt):
    """Raised by the signal handler. As a KeyboardInterrupt, it passes through asyncio and `except Exception`."""


class StallWatchdog:
    """Context manager that raises Stalled if lab time does not advance for `seconds_max` seconds of real time.

    It does nothing outside of the main thread, because only that receives signals.
    """

    def __init__(self, seconds_max: float = SECONDS_MAX) -> None:
        self._seconds_max = seconds_max
        self._now_ns: Callable[[], int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seen: tuple[int, float] = (-1, time.monotonic())
        self._why: Stalled | None = None

    def watch(self, now_ns: Callable[[], int], loop: asyncio.AbstractEventLoop) -> None:
        """Start to watch that `now_ns()` rises; the message of Stalled lists the tasks of `loop`."""
        self._now_ns, self._loop = now_ns, loop

    def __enter__(self) -> StallWatchdog:
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._handler = signal.signal(signal.SIGALRM, self._check)
            every = self._seconds_max / CHECKS
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

    def _check(self, _signal: int, frame: FrameType | None) -> None:
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
        why = f"lab time has stood at {format_duration(now_ns)} for {passed:.0f} s of real time"
        if frame is not None:
            why += f", in {frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
        return stalled(why, asyncio.all_tasks(self._loop) if self._loop is not None else ())
