"""Comparison with the installed base: a percentile of a reading over all instruments of the model.

The percentiles are a snapshot for each day: a report is compared with that of the day of its time, however late it
arrives, and no snapshot changes. Evaluators obtain them from `Bases`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from datacenter.triggers.terms.term import ABSENT, Step, Term

DAY_MS: Final = 86_400_000
PERCENTILES: Final = range(1, 100)
Bases: TypeAlias = Callable[[int, str, int], int]
"""The value of a percentile (from 1 to 99) of a reading in the snapshot for a day since 1970; ABSENT if unknown."""


def no_base(_day: int, _reading: str, _percentile: int) -> int:
    """`Bases` without any snapshot."""
    return ABSENT


@dataclass(frozen=True)
class Base(Term):
    """A percentile of the installed base, in the snapshot for the day of the report."""

    percentile: int

    def variables(self) -> dict[str, int]:
        return {"day": ABSENT, "v": ABSENT}

    def steps(self) -> list[Step]:
        day = f"now // {DAY_MS}"
        value = f"base({day}, {self.input.word!r}, {self.percentile})"
        return [Step(f"day != {day}", (("v", value), ("day", day)))]

    def value(self) -> str:
        return "v"
