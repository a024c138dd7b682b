"""Terms over a window of time: count, least, greatest and mean value, jitter, and change.

A window consists of four quarters, of which the last is the present one; therefore it covers between three quarters
and the whole of its duration. Its memory is constant, however many reports it covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from datacenter.triggers.terms.inputs import X_MAX, Bounds
from datacenter.triggers.terms.term import ABSENT, Step, Term

QUARTERS: Final = 4
_MOST: Final = 2**61


@dataclass(frozen=True)
class _Window(Term):
    """A value for each quarter, `empty` at its beginning; q0 is the present quarter."""

    duration_ms: int
    empty: ClassVar[int] = 0

    def variables(self) -> dict[str, int]:
        return {"at": ABSENT, **dict.fromkeys(self._quarters(), self.empty)}

    def steps(self) -> list[Step]:
        moves = self._moves(self._quarters(), self.empty)
        return [self._when_moved(moves), Step("", tuple(self.enter()))]

    def enter(self) -> list[tuple[str, str]]:
        """Return the assignments that enter `x` into the present quarter."""
        raise NotImplementedError

    def _quarters(self) -> list[str]:
        return [f"q{quarter}" for quarter in range(QUARTERS)]

    @property
    def _present(self) -> str:
        return f"now // {max(self.duration_ms // QUARTERS, 1)}"

    def _when_moved(self, assignments: list[tuple[str, str]]) -> Step:
        """Return the step of a report that begins a new quarter."""
        return Step(f"at != {self._present}", (*assignments, ("at", self._present)))

    def _moves(self, quarters: list[str], empty: int) -> list[tuple[str, str]]:
        """Move the values of earlier quarters when a new quarter has begun; the oldest leave the window."""
        moves = []
        for to in reversed(range(QUARTERS)):
            cases = "".join(
                f"{quarters[to - by]} if {self._present} - at == {by} else " for by in range(1, to + 1)
            )
            moves.append((quarters[to], f"{cases}{empty}"))
        return moves


@dataclass(frozen=True)
class OccurrenceCount(_Window):
    """The number of occurrences within the window."""

    def enter(self) -> list[tuple[str, str]]:
        return [("q0", "q0 + x")]

    def value(self) -> str:
        return " + ".join(self._quarters())

    def bounds(self, low: float, high: float) -> Bounds:  # noqa: ARG002
        return 0, inf


@dataclass(frozen=True)
class Least(_Window):
    """The least value within the window."""

    empty: ClassVar[int] = _MOST

    def enter(self) -> list[tuple[str, str]]:
        return [("q0", "min(q0, x)")]

    def value(self) -> str:
        least = "min(min(q0, q1), min(q2, q3))"
        return f"ABSENT if {least} == {self.empty} else {least}"


@dataclass(frozen=True)
class Greatest(_Window):
    """The greatest value within the window."""

    empty: ClassVar[int] = -_MOST

    def enter(self) -> list[tuple[str, str]]:
        return [("q0", "max(q0, x)")]

    def value(self) -> str:
        greatest = "max(max(q0, q1), max(q2, q3))"
        return f"ABSENT if {greatest} == {self.empty} else {greatest}"


@dataclass(frozen=True)
class Mean(_Window):
    """The arithmetic mean of the values within the window."""

    resolution: ClassVar[int] = 256

    def variables(self) -> dict[str, int]:
        earlier = [f"{prefix}{quarter}" for prefix in "qn" for quarter in range(1, QUARTERS)]
        return {"at": ABSENT, **dict.fromkeys(earlier, 0), "total": 0, "count": 0}

    def steps(self) -> list[Step]:
        """Return the steps; only earlier quarters have separate variables, so that a value changes few of them."""
        moved = []
        for variable, prefix in (("total", "q"), ("count", "n")):
            earlier = " + ".join(f"{prefix}{quarter}" for quarter in range(1, QUARTERS))
            moved.append((variable, f"{variable} - ({earlier})"))
            moved += self._moves([variable, *(f"{prefix}{quarter}" for quarter in range(1, QUARTERS))], 0)
            moved.append((variable, earlier))
        return [self._when_moved(moved), Step("", tuple(self.enter()))]

    def enter(self) -> list[tuple[str, str]]:
        return [("total", "total + x"), ("count", "count + 1")]

    def value(self) -> str:
        return f"ABSENT if count == 0 else total * {self.resolution} // max(count, 1)"


@dataclass(frozen=True)
class Jitter(Mean):
    """The mean absolute difference of successive values within the window.

    It measures noise, and hardly changes with slow deviations. White noise with the standard deviation 1 has the
    jitter 2/√π = 1.128. Source: von Neumann et al., Ann Math Stat 1941;12:153-162 (the mean square difference).
    """

    def variables(self) -> dict[str, int]:
        return super().variables() | {"before": ABSENT}

    def enter(self) -> list[tuple[str, str]]:
        return [
            ("total", "total if before == ABSENT else total + max(x - before, before - x)"),
            ("count", "count if before == ABSENT else count + 1"),
            ("before", "x"),
        ]

    def value_max(self) -> int:
        return 2 * X_MAX * self.resolution

    def bounds(self, low: float, high: float) -> Bounds:
        return 0, high - low


@dataclass(frozen=True)
class Change(_Window):
    """The latest value minus the first value of the oldest quarter; unknown until the window is full."""

    empty: ClassVar[int] = ABSENT

    def variables(self) -> dict[str, int]:
        return super().variables() | {"v": ABSENT}

    def enter(self) -> list[tuple[str, str]]:
        return [("q0", "x if q0 == ABSENT else q0"), ("v", "x")]

    def value(self) -> str:
        return "ABSENT if q3 == ABSENT else v - q3"

    def value_max(self) -> int:
        return 2 * X_MAX

    def bounds(self, low: float, high: float) -> Bounds:
        return low - high, high - low
