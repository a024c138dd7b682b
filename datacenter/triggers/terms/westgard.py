"""Rules for control measurements. Source: Westgard, Barry, Hunt, Groth, Clin Chem 1981;27:493-501.

`x` is a deviation in thousandths of a standard deviation. The value of a rule is 1 from a violation to the next
control measurement that does not violate it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from datacenter.triggers.terms.inputs import Bounds
from datacenter.triggers.terms.term import Step, Term

_SD: Final = 1000


@dataclass(frozen=True)
class Rule(Term):
    """One rule for an assay's controls of all levels, in the order of their measurement."""

    rule: str

    @property
    def scale(self) -> int:
        """1: a rule is violated or not."""
        return 1

    def variables(self) -> dict[str, int]:
        return {"broken": 0, **dict.fromkeys(self._memory, 0)}

    @property
    def _memory(self) -> tuple[str, ...]:
        return {
            "1-3s": (),
            "2-2s": ("before",),
            "R-4s": ("before",),
            "4-1s": ("length",),
            "10-x": ("length",),
        }[self.rule]

    def steps(self) -> list[Step]:
        return [Step("", tuple(_ASSIGNMENTS[self.rule]))]

    def value(self) -> str:
        return "broken"

    def bounds(self, low: float, high: float) -> Bounds:  # noqa: ARG002
        return 0, 1


def _run_of(limit: int, length: int) -> list[tuple[str, str]]:
    """Return assignments that detect `length` successive measurements beyond `limit` on one side of the mean."""
    above = f"max(length, 0) + 1 if x > {limit} else min(length, 0) - 1 if x < {-limit} else 0"
    return [("length", above), ("broken", f"1 if length >= {length} or length <= {-length} else 0")]


def _pair(condition: str) -> list[tuple[str, str]]:
    return [("broken", f"1 if {condition} else 0"), ("before", "x")]


_ASSIGNMENTS: Final = {
    "1-3s": [("broken", f"1 if x > {3 * _SD} or x < {-3 * _SD} else 0")],
    "2-2s": _pair(f"min(x, before) > {2 * _SD} or max(x, before) < {-2 * _SD}"),
    "R-4s": _pair(f"min(x, before) < {-2 * _SD} and max(x, before) > {2 * _SD}"),
    "4-1s": _run_of(_SD, 4),
    "10-x": _run_of(0, 10),
}
RULES: Final = tuple(_ASSIGNMENTS)
"""1-3s: one control beyond 3 SD. 2-2s: two successive ones beyond 2 SD on one side. R-4s: two successive ones beyond
2 SD on opposite sides. 4-1s: four successive ones beyond 1 SD on one side. 10-x: ten successive ones on one side."""
