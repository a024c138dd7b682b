"""The virtual world's clock: SimPy time as an integer number of nanoseconds since the start of the lab.

Most events of a lab are plain callbacks at a time: a segment arrives, a timer expires. Such a callback is stored in
SimPy's own queue, so that callbacks and SimPy events share one order, but it is not a `simpy.Event`, which would take
twice the time. SimPy's queue entries are (time, priority, number, event); entries of callbacks have a fifth element.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from heapq import heappop, heappush
from typing import Any, Final

import simpy
from simpy.core import EmptySchedule
from simpy.events import NORMAL

EVENTS_AT_ONE_INSTANT_MAX: Final = 1 << 20
"""Number of events at one instant that is treated as an endless loop of SimPy processes."""
_STEPS: Final = range(EVENTS_AT_ONE_INSTANT_MAX)


class TimeStalled(Exception):
    """EVENTS_AT_ONE_INSTANT_MAX events were processed and simulated time did not advance."""


class Environment(simpy.Environment):
    """A SimPy environment whose time is an integer number of nanoseconds."""

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

    def skip(self, delay_ns: int) -> bool:
        """Advance the time if no event is due until then; returns whether it did.

        This takes a tenth of the time of an event. Only a process that runs alone for most of the time may use it.
        """
        then_ns = self._now + delay_ns
        if self._queue and self._queue[0][0] <= then_ns:
            return False
        self._now = then_ns
        return True

    def step(self) -> None:
        """Process the next event or callback. Raises: EmptySchedule if there is none."""
        queue: Any = self._queue
        if queue and len(queue[0]) == 5:
            self._now, _, _, callback, value = heappop(queue)
            callback(value)
        else:
            super().step()

    def step_until(self, ready: Sized) -> None:
        """Process events until `ready` is not empty.

        Raises: EmptySchedule if no event is left; TimeStalled if simulated time does not advance.
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
                raise TimeStalled(f"{EVENTS_AT_ONE_INSTANT_MAX:,} events happened and no lab time passed")


# Expose the slot itself instead of the property: `now` is read about thirty times for each report.
Environment.now = vars(Environment)["_now"]  # type: ignore[method-assign]
