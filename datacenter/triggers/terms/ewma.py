"""Exponentially weighted moving average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from datacenter.triggers.terms.term import ABSENT, Step, Term

WEIGHT_MAX: Final = 4096


@dataclass(frozen=True)
class Ewma(Term):
    """The mean with the weight 1/n of the latest value; each earlier weight is (1 - 1/n) times the next one.

    It starts with the first value. Source: Roberts, Technometrics 1959;1:239-250 (lambda = 1/n).
    """

    n: int
    resolution: ClassVar[int] = 2**16

    def variables(self) -> dict[str, int]:
        return {"e": ABSENT}

    def steps(self) -> list[Step]:
        x = f"x * {self.resolution}"
        return [Step("", (("e", f"{x} if e == ABSENT else e + ({x} - e) // {self.n}"),))]

    def value(self) -> str:
        return "e"
