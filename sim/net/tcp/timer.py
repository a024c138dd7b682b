"""Timers whose deadline moves with almost every segment, at the price of one event in a while.

The event of an earlier deadline stays in the queue when the deadline moves to later, and looks at it when it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.clock import Environment


class LazyTimer:
    """Calls `expired` once `deadline` has come; a deadline of 0 is none."""

    __slots__ = ("_env", "_event_at", "_expired", "deadline")

    def __init__(self, env: Environment, expired: Callable[[], object]) -> None:
        self._env, self._expired = env, expired
        self.deadline = 0
        self._event_at = 0

    def set(self, deadline: int) -> None:
        """Move the deadline."""
        self.deadline = deadline
        if not self._event_at or deadline < self._event_at:
            self._event_at = deadline
            env = self._env
            env.after(deadline - env._now, self._on_event, deadline)

    def _on_event(self, at: int) -> None:
        if at != self._event_at:
            return  # an earlier one was added since
        self._event_at = 0
        deadline = self.deadline
        if deadline > at:
            self.set(deadline)
        elif deadline:
            self.deadline = 0
            self._expired()
