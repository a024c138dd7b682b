"""Types of `rap image check`: an evaluation with its verdicts, and the error for invalid input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

SEVERITIES: Final = ("high", "medium", "low")
"""Categories I, II and III of the STIG; a rule without a category counts as low."""


class InvalidCheckInput(Exception):
    """The input cannot be evaluated; the message states how to correct it."""


class RuleVerdict(StrEnum):
    """The verdict of a rule, as printed in the table."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class RuleEvaluation:
    """A rule with its verdict; `reason` is the written reason, or ""."""

    rule: str
    severity: str
    title: str
    verdict: RuleVerdict
    reason: str = ""
    findings: tuple[str, ...] = ()
    """The locations where the rule fails, each with the repair, if known."""


@dataclass(frozen=True)
class Evaluation:
    """The verdicts of all rules of a profile for one system, and the stale reasons."""

    rules: Sequence[RuleEvaluation]
    stale: Sequence[str] = field(default=())
    """Messages about reasons without a failing rule."""

    @property
    def fails(self) -> list[RuleEvaluation]:
        """The rules that fail, the most severe first."""
        failed = [one for one in self.rules if one.verdict is RuleVerdict.FAIL]
        return sorted(failed, key=lambda one: (SEVERITIES.index(one.severity), one.rule))

    @property
    def passed(self) -> bool:
        """Whether each failed rule has a reason, and no reason is stale."""
        return all(one.reason for one in self.fails) and not self.stale

    @property
    def passed_share(self) -> float:
        """The share of decided rules that pass; 1 if none was decided."""
        count = Counter(one.verdict for one in self.rules)
        decided = count[RuleVerdict.PASS] + count[RuleVerdict.FAIL]
        return count[RuleVerdict.PASS] / decided if decided else 1.0

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of rules by severity and verdict."""
        count = Counter((one.severity, one.verdict) for one in self.rules)
        return {s: {str(v): count[s, v] for v in RuleVerdict} for s in SEVERITIES}
