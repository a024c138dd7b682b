"""What the parts of `rap image check` share: what a judgement is, and how judging can fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

SEVERITIES: Final = ("high", "medium", "low")
"""Categories I, II and III of the STIG; a rule without one counts as low."""


class WrongCheck(Exception):
    """What was given cannot be judged; the message says what would be right."""


class RuleVerdict(StrEnum):
    """What became of a rule, as the table's columns say it."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Judged:
    """One rule: its name, severity and title, the verdict, and the reason where one is written."""

    rule: str
    severity: str
    title: str
    verdict: RuleVerdict
    reason: str = ""
    findings: tuple[str, ...] = ()
    """Where it fails and what would be right, where that is known."""


@dataclass(frozen=True)
class Judgement:
    """All rules of a profile on one system, and what is wrong with the written reasons."""

    rules: Sequence[Judged]
    stale: Sequence[str] = field(default=())
    """Complaints about reasons that are written for nothing."""

    @property
    def fails(self) -> list[Judged]:
        """What failed, the gravest first."""
        failed = [one for one in self.rules if one.verdict is RuleVerdict.FAIL]
        return sorted(failed, key=lambda one: (SEVERITIES.index(one.severity), one.rule))

    @property
    def holds(self) -> bool:
        """Whether each fail has its reason, and each reason its fail."""
        return all(one.reason for one in self.fails) and not self.stale

    @property
    def passed_share(self) -> float:
        """Of the rules that were decided, how many pass; 1 if none was."""
        count = Counter(one.verdict for one in self.rules)
        decided = count[RuleVerdict.PASS] + count[RuleVerdict.FAIL]
        return count[RuleVerdict.PASS] / decided if decided else 1.0

    def counts(self) -> dict[str, dict[str, int]]:
        """How many rules of each severity came to each verdict."""
        count = Counter((one.severity, one.verdict) for one in self.rules)
        return {s: {str(v): count[s, v] for v in RuleVerdict} for s in SEVERITIES}
