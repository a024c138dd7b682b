"""The relay: one thread that carries the frames of all links.

It takes each frame from a packet socket, and gives it to the other end when a `sim.net.link.Pipe` says so,
which here has a clock of real time. docs/design/kernel-world.md says why neither tc-tbf(8) nor tc-netem(8) does
it, and what it costs.

It is a thread, so that what else the supervisor does delays a frame by no more than Python's switch interval;
and it waits in select(2), whose timeout is in microseconds where epoll's is in milliseconds.
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
    """What a callback of the clock gets: like SimPy's event, with a value."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value


class RealTime:
    """The two things that a `Pipe` wants of a SimPy environment, in real time."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._order = count()

    @property
    def now(self) -> int:
        """Nanoseconds of the monotonic clock."""
        return time.monotonic_ns()

    def after(self, delay_ns: int, callback: Callable[[Any], None], value: Any = None) -> None:
        """Call `callback` with a Due of `value`, `delay_ns` from now."""
        heapq.heappush(self._due, (self.now + delay_ns, next(self._order), callback, value))

    def call_what_is_due(self) -> None:
        """Call every callback whose time has come."""
        due, now = self._due, self.now
        while due and due[0][0] <= now:
            _, _, callback, value = heapq.heappop(due)
            callback(Due(value))

    def seconds_left(self) -> float | None:
        """The time until the next callback; None if there is none."""
        return max(0, self._due[0][0] - self.now) / _NS if self._due else None


class Relay:
    """The thread, its clock, and the sockets from which it takes frames."""

    def __init__(self) -> None:
        self.clock = RealTime()
        self._sources: dict[socket.socket, Callable[[bytes], None]] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        sys.setswitchinterval(SWITCH_SECONDS)
        Thread(target=self._run, name="relay", daemon=True).start()

    def carry(self, source: socket.socket, take: Callable[[bytes], None]) -> None:
        """From now on give each frame from the non-blocking socket `source` to `take`, in the relay's thread."""
        self._sources = {**self._sources, source: take}
        self.wake()

    def wake(self) -> None:
        """Let the thread look again at what is due next."""
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while True:
            sources = self._sources
            waiting: list[int | socket.socket] = [self._wake, *sources]
            ready, _, _ = select.select(waiting, [], [], self.clock.seconds_left())
            self.clock.call_what_is_due()
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
            return  # no more for now, or the cable was pulled
        take(frame)
