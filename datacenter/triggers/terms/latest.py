"""The latest value of an input."""

from __future__ import annotations

from dataclasses import dataclass

from datacenter.triggers.terms.term import ABSENT, Step, Term


@dataclass(frozen=True)
class Latest(Term):
    """The value in the latest report that had one."""

    def variables(self) -> dict[str, int]:
        return {"v": ABSENT}

    def steps(self) -> list[Step]:
        return [Step("", (("v", "x"),))]

    def value(self) -> str:
        return "v"
