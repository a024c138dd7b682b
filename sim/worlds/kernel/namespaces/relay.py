"""The relay: one thread that forwards the frames of all links.

It reads frames from packet sockets, and sends each to the other end of its link at the time computed by a
`sim.net.link.Pipe` with a real-time clock. docs/design/kernel-world.md explains why tc-tbf(8) and tc-netem(8) are not
used, and what the relay costs.

It is a separate thread, so that other work of the supervisor delays a frame by at most Python's switch interval. It
waits in select(2), whose timeout has a resolution of microseconds; that of epoll_wait(2) has one of milliseconds.
"""

from __future__ import annotations

import heapq
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from itertools import count
from threading import Thread
from typing import Any, Final

SWITCH_SECONDS: Final = 0.0005
_FRAMES_AT_ONCE: Final = 64
_FRAME_BYTES_MAX: Final = 65536
_NS: Final = 1_000_000_000


class Due:
    """The argument of a callback of the clock: like a SimPy event with a value."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value


class RealTime:
    """The part of the interface of a SimPy environment that a `Pipe` uses, in real time."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._order = count()

    @property
    def now(self) -> int:
        """The monotonic clock, in nanoseconds."""
        return time.monotonic_ns()

    def after(self, delay_ns: int, callback: Callable[[Any], None], value: Any = None) -> None:
        """Call `callback` with a `Due` of `value` after `delay_ns` nanoseconds."""
        heapq.heappush(self._due, (self.now + delay_ns, next(self._order), callback, value))

    def call_due(self) -> None:
        """Call all callbacks that are due."""
        due, now = self._due, self.now
        while due and due[0][0] <= now:
            _, _, callback, value = heapq.heappop(due)
            callback(Due(value))

    def seconds_left(self) -> float | None:
        """Return the time until the next callback, in seconds; None if there is none."""
        return max(0, self._due[0][0] - self.now) / _NS if self._due else None


class Relay:
    """The relay's thread, its clock, and the sockets from which it reads frames."""

    def __init__(self) -> None:
        self.clock = RealTime()
        self._sources: dict[socket.socket, Callable[[bytes], None]] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        sys.setswitchinterval(SWITCH_SECONDS)
        Thread(target=self._run, name="relay", daemon=True).start()

    def carry(self, source: socket.socket, take: Callable[[bytes], None]) -> None:
        """Call `take` in the relay's thread with each frame from the non-blocking socket `source`."""
        self._sources = {**self._sources, source: take}
        self.wake()

    def wake(self) -> None:
        """Wake the thread, to recompute when the next callback is due."""
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while True:
            sources = self._sources
            waiting: list[int | socket.socket] = [self._wake, *sources]
            ready, _, _ = select.select(waiting, [], [], self.clock.seconds_left())
            self.clock.call_due()
            for source, take in sources.items():
                if source in ready:
                    _take_frames(source, take)
            if self._wake in ready:
                os.eventfd_read(self._wake)


def _take_frames(source: socket.socket, take: Callable[[bytes], None]) -> None:
    for _ in range(_FRAMES_AT_ONCE):
        try:
            frame = source.recv(_FRAME_BYTES_MAX)
        except OSError:
            return  # no more frames, or the interface is down
        take(frame)
