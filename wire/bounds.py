"""Bounded quantities of a program, and an alarm when one comes near its limit.

An alarm is raised at 80 % of the limit and cleared below 70 %, so that a quantity that moves about the threshold does
not raise one alarm after the other. A bound is a limit on something that accumulates: connections, descriptors,
memory, waiting commands, tokens of a rate limit. A limit on a single message, such as the size of a request, is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

ALARM_SHARE: Final = 0.8
CLEAR_SHARE: Final = 0.7
LOOK_SECONDS: Final = 60.0
"""How often the quantities are looked at that do not report by themselves that they grow."""

Measured: TypeAlias = tuple[float, float]
"""The present amount and its limit, in the same unit."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A quantity with a limit."""

    name: str
    """Lower-case words with hyphens. The audit events are `NAME-near-limit` and `NAME-below-limit`."""
    measure: Callable[[], Measured | None]
    """The amount and its limit now; None if it is not known or not limited. Called on the event loop's thread."""
    port: int = 0
    """The instrument port that it belongs to; 0: none."""
    clear_share: float = CLEAR_SHARE


@dataclass(frozen=True, slots=True)
class Level:
    """A bound at one moment."""

    name: str
    port: int
    amount: float
    limit: float
    is_near: bool
    """Whether there is an alarm."""

    @property
    def percent(self) -> int:
        """The amount in percent of the limit, rounded down: 79 is below the alarm threshold, 80 is not."""
        return int(100 * _share(self.amount, self.limit))


class Bounds:
    """The bounds of a program. `look` at them now and then, and when one is known to have grown."""

    def __init__(self, report: Callable[[Level], object]) -> None:
        """`report` is called when an alarm is raised, with `is_near`, and when it is cleared, without."""
        self._report = report
        self._levels: dict[Bound, Level | None] = {}

    def add(self, *bounds: Bound) -> None:
        """Look at these, too."""
        self._levels.update(dict.fromkeys(bounds))

    def remove(self, bound: Bound) -> None:
        """The quantity is there no longer; its alarm is cleared."""
        level = self._levels.pop(bound, None)
        if level is not None and level.is_near:
            self._report(Level(level.name, level.port, 0.0, level.limit, is_near=False))

    def look(self) -> None:
        """Measure everything, and report the alarms that are raised or cleared."""
        for bound, before in list(self._levels.items()):
            measured = bound.measure()
            if measured is None:
                continue
            was_near = before is not None and before.is_near
            is_near = _share(*measured) >= (bound.clear_share if was_near else ALARM_SHARE)
            level = self._levels[bound] = Level(bound.name, bound.port, *measured, is_near)
            if is_near != was_near:
                self._report(level)

    @property
    def levels(self) -> tuple[Level, ...]:
        """What was measured last, as far as it is known."""
        return tuple(level for level in self._levels.values() if level is not None)

    @property
    def has_alarm(self) -> bool:
        """Whether anything is near its limit."""
        return any(level.is_near for level in self.levels)


def _share(amount: float, limit: float) -> float:
    return amount / limit if limit > 0 else 1.0
