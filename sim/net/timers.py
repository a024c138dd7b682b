"""Timers whose deadline moves with almost every segment, at the price of a few events for all of a link's.

An exchange sets a timer or two at each end of its connection, and most of them are cleared before they are due. So
the timers of all connections over a link share one event, the earliest deadline's. It stays in the queue when
deadlines are cleared or move to later, and when it comes, what is left is looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.engine.clock import Environment


class LazyTimers:
    """The timers that share an event."""

    __slots__ = ("_env", "event_at", "listed")

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.event_at = 0
        """When the timers are looked at next; 0 for never."""
        self.listed: list[LazyTimer] = []
        """Those that were set since they were looked at last, or still have a deadline."""

    def look_at(self, deadline: int) -> None:
        """Look at the timers then, and not at the time that was planned before."""
        self.event_at = deadline
        self._env.after(deadline - self._env.now, self._look, deadline)

    def _look(self, at: int) -> None:
        if at != self.event_at:
            return  # an earlier event was added since
        self.event_at = 0
        listed, self.listed = self.listed, []
        due = []
        for timer in listed:
            if timer.deadline > at:
                self.listed.append(timer)
            else:
                timer.is_listed = False
                due.append(timer)
        if self.listed:
            self.look_at(min([timer.deadline for timer in self.listed]))
        for timer in due:
            if 0 < timer.deadline <= at:  # one that was due before it may have moved or cleared it
                timer.deadline = 0
                timer.expired()


class LazyTimer:
    """Calls `expired` once `deadline` has come; a deadline of 0 is none."""

    __slots__ = ("_timers", "deadline", "expired", "is_listed")

    def __init__(self, timers: LazyTimers, expired: Callable[[], object]) -> None:
        self._timers, self.expired = timers, expired
        self.deadline = 0
        self.is_listed = False

    def set(self, deadline: int) -> None:
        """Move the deadline."""
        self.deadline = deadline
        timers = self._timers
        if not self.is_listed:
            self.is_listed = True
            timers.listed.append(self)
        if not timers.event_at or deadline < timers.event_at:
            timers.look_at(deadline)
