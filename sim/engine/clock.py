"""The virtual world's clock: SimPy time as an integer number of nanoseconds since the start of the lab.

Most of what happens in a lab is a callback at a time: a segment arrives, a timer ends. Such a callback stands in
SimPy's own queue among the events of processes, in the one order of all, but is no event that anything could wait
for: that would cost twice as much. SimPy's entries are (time, priority, number, event); ours have a fifth element.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from heapq import heappop, heappush
from typing import Any, Final

import simpy
from simpy.core import EmptySchedule
from simpy.events import NORMAL

EVENTS_AT_ONE_INSTANT_MAX: Final = 1 << 20
"""So many events in a row at one time are taken for an endless loop of SimPy processes."""
_STEPS: Final = range(EVENTS_AT_ONE_INSTANT_MAX)


class TimeStands(Exception):
    """Events follow one another without end at one instant."""


class Environment(simpy.Environment):
    """A SimPy environment in nanoseconds."""

    __slots__ = ("_now",)
    _now: int

    def __init__(self) -> None:
        super().__init__(0)

    @property
    def now(self) -> int:
        """Nanoseconds since the start of the lab."""
        return self._now

    def after(self, delay_ns: int, callback: Callable[[Any], object], value: Any = None) -> None:
        """Call `callback(value)`, `delay_ns` from now."""
        entry: Any = (self._now + delay_ns, NORMAL, next(self._eid), callback, value)
        heappush(self._queue, entry)

    def step(self) -> None:
        """Let the next thing happen. Raises EmptySchedule when there is none."""
        queue: Any = self._queue
        if queue and len(queue[0]) == 5:
            self._now, _, _, callback, value = heappop(queue)
            callback(value)
        else:
            super().step()

    def step_until(self, ready: Sized) -> None:
        """Step until `ready` is not empty any more.

        Raises EmptySchedule when nothing can happen before, TimeStands when time does not get on.
        """
        queue: Any = self._queue
        while not ready:
            began_ns = self._now
            for _ in _STEPS:
                if not queue:
                    raise EmptySchedule
                if len(queue[0]) == 5:
                    self._now, _, _, callback, value = heappop(queue)
                    callback(value)
                else:
                    super().step()
                if ready:
                    return
            if self._now == began_ns:
                raise TimeStands(f"{EVENTS_AT_ONE_INSTANT_MAX:,} events happened and no lab time passed")


# The slot itself instead of the property, whose call would be paid for thirty times for each report.
Environment.now = vars(Environment)["_now"]  # type: ignore[method-assign]
