"""The terms of conditions: integers computed from an instrument's reports, with one transition per report.

A term's transition is a list of steps. Each step has a guard and assignments to the term's variables, as Python
source text. The text may use the term's variables, `x` (the input's value in this report), `now` (the report's time
in ms, which never decreases), integers, ABSENT, the operators + - * // and comparisons, `and`, `or`, `not`,
conditional expressions, `min`, `max`, and `base(day, reading, percentile)` of the installed base. Assignments take
effect in their order. Every value stays within 64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from datacenter.triggers.terms.inputs import X_MAX, Bounds, Input

ABSENT: Final = -(2**62)
"""The value of a variable or a term that is not known yet."""


class Step(NamedTuple):
    """Assignments that are executed if the guard is true; the guard "" denotes a report with the term's input."""

    guard: str
    assignments: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Term:
    """A term of one input. Equal terms have equal values, and are computed once."""

    input: Input
    resolution: ClassVar[int] = 1
    """The term's value is an integer in units of 1 / (input.resolution * resolution)."""

    @property
    def scale(self) -> int:
        """The integer that represents the value 1."""
        return self.input.resolution * self.resolution

    def variables(self) -> dict[str, int]:
        """Return the variables and their initial values."""
        raise NotImplementedError

    def steps(self) -> list[Step]:
        """Return the steps of the transition."""
        raise NotImplementedError

    def value(self) -> str:
        """Return the expression of the term's value over the variables; ABSENT while it is unknown."""
        raise NotImplementedError

    def value_max(self) -> int:
        """Return a limit of the absolute value. Default: the limit for a value within the bounds of the input."""
        return X_MAX * self.resolution

    def bounds(self, low: float, high: float) -> Bounds:
        """Return the bounds of the value, given the bounds of the input. Default: the same."""
        return low, high
