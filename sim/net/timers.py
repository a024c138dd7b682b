"""TCP timers, whose deadlines move with almost every segment; all timers of a link share one event.

An exchange sets one or two timers at each end of its connection, and most are cleared before they expire. One event,
at the earliest deadline, therefore serves the timers of all connections over a link. It stays in the queue when
deadlines are cleared or moved to later; when it is due, the remaining deadlines are checked.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.engine.clock import Environment


class LazyTimers:
    """A group of timers that share one event."""

    __slots__ = ("_env", "event_at", "listed")

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.event_at = 0
        """The time at which the timers are checked next; 0 for never."""
        self.listed: list[LazyTimer] = []
        """The timers that were set since the last check or still have a deadline."""

    def look_at(self, deadline: int) -> None:
        """Check the timers at `deadline` instead of the time that was scheduled before."""
        self.event_at = deadline
        self._env.after(deadline - self._env.now, self._look, deadline)

    def _look(self, at: int) -> None:
        if at != self.event_at:
            return  # superseded by an earlier event
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
            if 0 < timer.deadline <= at:  # an earlier timer's function may have moved or cleared it
                timer.deadline = 0
                timer.expired()


class LazyTimer:
    """A timer that calls `expired` at `deadline`, in nanoseconds of lab time; 0 means that it is not set."""

    __slots__ = ("_timers", "deadline", "expired", "is_listed")

    def __init__(self, timers: LazyTimers, expired: Callable[[], object]) -> None:
        self._timers, self.expired = timers, expired
        self.deadline = 0
        self.is_listed = False

    def set(self, deadline: int) -> None:
        """Set the timer, or move its deadline."""
        self.deadline = deadline
        timers = self._timers
        if not self.is_listed:
            self.is_listed = True
            timers.listed.append(self)
        if not timers.event_at or deadline < timers.event_at:
            timers.look_at(deadline)
