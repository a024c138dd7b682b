"""Terms over a window of time: count, least, greatest and mean value, and change.

A window consists of four quarters, of which the last is the present one, so that it covers between three quarters and
the whole of its duration. Its memory is constant, however many reports it covers.
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
        return [self._advance("q", self.empty), Step("", tuple(self.enter()))]

    def enter(self) -> list[tuple[str, str]]:
        """The assignments that enter `x` into the present quarter."""
        raise NotImplementedError

    def _quarters(self, prefix: str = "q") -> list[str]:
        return [f"{prefix}{quarter}" for quarter in range(QUARTERS)]

    def _advance(self, *prefixes: str | int) -> Step:
        """Move the values of earlier quarters when a new quarter has begun; the oldest leave the window."""
        present = f"now // {max(self.duration_ms // QUARTERS, 1)}"
        moves = []
        for prefix, empty in zip(prefixes[::2], prefixes[1::2], strict=True):
            for to in reversed(range(QUARTERS)):
                cases = "".join(
                    f"{prefix}{to - by} if {present} - at == {by} else " for by in range(1, to + 1)
                )
                moves.append((f"{prefix}{to}", f"{cases}{empty}"))
        return Step(f"at != {present}", (*moves, ("at", present)))


@dataclass(frozen=True)
class Count(_Window):
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
        return super().variables() | dict.fromkeys(self._quarters("n"), 0)

    def steps(self) -> list[Step]:
        return [self._advance("q", 0, "n", 0), Step("", tuple(self.enter()))]

    def enter(self) -> list[tuple[str, str]]:
        return [("q0", "q0 + x"), ("n0", "n0 + 1")]

    def value(self) -> str:
        total, count = (" + ".join(self._quarters(prefix)) for prefix in "qn")
        return f"ABSENT if {count} == 0 else ({total}) * {self.resolution} // max({count}, 1)"


@dataclass(frozen=True)
class Change(_Window):
    """The latest value less the first one of the oldest quarter; unknown until the window is full."""

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
