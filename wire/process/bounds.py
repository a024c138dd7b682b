"""Monitors bounded quantities of a program and raises an alarm when one approaches its limit.

An alarm is raised at 80 % of the limit (75 % for storage) and cleared below 70 %, so that a quantity near the
threshold does not raise repeated alarms. A bound is a limit on something that accumulates: connections,
descriptors, memory, waiting commands, tokens of a rate limit. A limit on a single message, such as the size of a
request, is not a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

ALARM_SHARE: Final = 0.8
STORAGE_ALARM_SHARE: Final = 0.75
"""The threshold for storage of audit records, as APSC-DV-001090 requires."""
CLEAR_SHARE: Final = 0.7
CHECK_SECONDS: Final = 60.0
"""Interval of the checks, for quantities that do not trigger a check themselves."""

Measured: TypeAlias = tuple[float, float]
"""The current amount and its limit, in the same unit."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A quantity with a limit."""

    name: str
    """Lower-case words with hyphens. The audit events are `NAME-near-limit` and `NAME-below-limit`."""
    measure: Callable[[], Measured | None]
    """Returns the current amount and limit; None if unknown or unlimited. Called on the event loop's thread."""
    port: int = 0
    """The instrument port that it belongs to; 0: none."""
    alarm_share: float = ALARM_SHARE
    clear_share: float = CLEAR_SHARE


@dataclass(frozen=True, slots=True)
class Level:
    """The state of a bound at one time."""

    name: str
    port: int
    amount: float
    limit: float
    is_near: bool
    """Whether the alarm is raised."""

    @property
    def percent(self) -> int:
        """The amount in percent of the limit, rounded down: 79 is below an alarm threshold of 80 %, 80 is not."""
        return int(100 * _share(self.amount, self.limit))


class Bounds:
    """The bounds of a program. Call `check` regularly, and when a quantity has grown."""

    def __init__(self, report: Callable[[Level], object]) -> None:
        """`report` is called when an alarm is raised (`is_near` is true) and when it is cleared (false)."""
        self._report = report
        self._states: dict[Bound, tuple[Measured, bool] | None] = {}
        """The last measurement of each bound, and whether its alarm is raised."""

    def add(self, *bounds: Bound) -> None:
        """Monitor these bounds too."""
        self._states.update(dict.fromkeys(bounds))

    def remove(self, bound: Bound) -> None:
        """Stop monitoring a bound, and clear its alarm."""
        state = self._states.pop(bound, None)
        if state is not None and state[1]:
            self._report(_level(bound, (0.0, state[0][1]), is_near=False))

    def check(self) -> None:
        """Measure all bounds, and report raised and cleared alarms."""
        for bound, previous in list(self._states.items()):
            measured = bound.measure()
            if measured is None:
                continue
            was_near = previous is not None and previous[1]
            is_near = _share(*measured) >= (bound.clear_share if was_near else bound.alarm_share)
            self._states[bound] = measured, is_near
            if is_near != was_near:
                self._report(_level(bound, measured, is_near=is_near))

    @property
    def levels(self) -> tuple[Level, ...]:
        """Return the last measurements, except of unknown quantities."""
        return tuple(
            _level(bound, state[0], is_near=state[1])
            for bound, state in self._states.items()
            if state is not None
        )

    @property
    def has_alarm(self) -> bool:
        """Whether any alarm is raised."""
        return any(state is not None and state[1] for state in self._states.values())


def _level(bound: Bound, measured: Measured, *, is_near: bool) -> Level:
    return Level(bound.name, bound.port, *measured, is_near)


def _share(amount: float, limit: float) -> float:
    return amount / limit if limit > 0 else 1.0
