"""An evaluation as text, with a table by category and each failed rule with its reason, and as a JSON document."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from imaging.check.types import SEVERITIES, Evaluation, RuleVerdict

UNEXPLAINED: Final = (
    "NO REASON GIVEN: correct the system, or add a reason to firmware-image/stig/exceptions.toml"
)


def as_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return the JSON document of `--json`."""
    return {
        "verdict": "pass" if evaluation.passed else "fail",
        "passed_share": round(evaluation.passed_share, 4),
        "counts": evaluation.counts(),
        "fails": [asdict(one) for one in evaluation.fails],
        "left_out": {one.rule: one.reason for one in evaluation.rules if one.verdict is RuleVerdict.LEFT_OUT},
        "stale": list(evaluation.stale),
    }


def show(evaluation: Evaluation, console: Console) -> None:
    """Print an evaluation: the table, the failed rules, the rules left out, and the stale reasons."""
    console.print(_table(evaluation))
    _print(console, f"{evaluation.passed_share:.1%} of the decided rules pass")
    for one in evaluation.fails:
        lines = [f"\n{one.severity}: {one.rule}: {one.title}", *(one.findings or [one.reason or UNEXPLAINED])]
        _print(console, "\n    ".join(lines))
    left = Counter(one.reason for one in evaluation.rules if one.verdict is RuleVerdict.LEFT_OUT)
    if left:
        _print(console, "\nleft out (firmware-image/stig):")
    for reason, count in left.most_common():
        _print(console, f"  {count:3}  {reason}")
    for message in evaluation.stale:
        _print(console, message)


def _print(console: Console, text: str) -> None:
    """Print text without rich's wrapping, markup and highlighting."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _table(evaluation: Evaluation) -> Table:
    table = Table("category", *map(str, RuleVerdict))
    counts = evaluation.counts()
    for severity in SEVERITIES:
        table.add_row(severity, *(str(counts[severity][str(verdict)]) for verdict in RuleVerdict))
    return table
