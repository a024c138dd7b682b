"""One-sided cumulative sums."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import ClassVar, Final

from datacenter.triggers.terms.inputs import Bounds
from datacenter.triggers.terms.term import Step, Term

SUM_MAX: Final = 2**45


@dataclass(frozen=True)
class CusumHigh(Term):
    """The sum of excesses above `target` + `slack`, never below 0. Source: Page, Biometrika 1954;41:100-115."""

    target: Fraction
    slack: Fraction
    resolution: ClassVar[int] = 16

    def variables(self) -> dict[str, int]:
        return {"s": 0}

    def steps(self) -> list[Step]:
        reference = round((self.target + self.slack) * self.scale)
        return [Step("", (("s", f"min(max(s + x * {self.resolution} - {reference}, 0), {SUM_MAX})"),))]

    def value(self) -> str:
        return "s"

    def value_max(self) -> int:
        return SUM_MAX

    def bounds(self, low: float, high: float) -> Bounds:  # noqa: ARG002
        return 0, 0 if high <= self.target + self.slack else inf


@dataclass(frozen=True)
class CusumLow(CusumHigh):
    """The sum of shortfalls below `target` - `slack`, never below 0."""

    def steps(self) -> list[Step]:
        reference = round((self.target - self.slack) * self.scale)
        return [Step("", (("s", f"min(max(s + {reference} - x * {self.resolution}, 0), {SUM_MAX})"),))]

    def bounds(self, low: float, high: float) -> Bounds:  # noqa: ARG002
        return 0, 0 if low >= self.target - self.slack else inf
