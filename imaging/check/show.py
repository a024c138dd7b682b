"""Printing an evaluation: a table by category, then each fail with its reason; and its JSON document."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from imaging.check.types import SEVERITIES, Judgement, RuleVerdict

UNEXPLAINED: Final = "NO REASON IS WRITTEN: repair it, or add a reason to firmware-image/stig/exceptions.toml"


def as_document(judgement: Judgement) -> dict[str, Any]:
    """Return the JSON document of `--json`."""
    return {
        "verdict": "pass" if judgement.passed else "fail",
        "passed_share": round(judgement.passed_share, 4),
        "counts": judgement.counts(),
        "fails": [asdict(one) for one in judgement.fails],
        "left_out": {one.rule: one.reason for one in judgement.rules if one.verdict is RuleVerdict.LEFT_OUT},
        "stale": list(judgement.stale),
    }


def show(judgement: Judgement, console: Console) -> None:
    """Print an evaluation."""
    console.print(_table(judgement))
    _print(console, f"{judgement.passed_share:.1%} of the decided rules pass")
    for one in judgement.fails:
        lines = [f"\n{one.severity}: {one.rule}: {one.title}", *(one.findings or [one.reason or UNEXPLAINED])]
        _print(console, "\n    ".join(lines))
    left = Counter(one.reason for one in judgement.rules if one.verdict is RuleVerdict.LEFT_OUT)
    if left:
        _print(console, "\nleft out (firmware-image/stig):")
    for reason, count in left.most_common():
        _print(console, f"  {count:3}  {reason}")
    for complaint in judgement.stale:
        _print(console, complaint)


def _print(console: Console, text: str) -> None:
    """Print text without rich's line breaks and highlighting."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _table(judgement: Judgement) -> Table:
    table = Table("category", *map(str, RuleVerdict))
    counts = judgement.counts()
    for severity in SEVERITIES:
        table.add_row(severity, *(str(counts[severity][str(verdict)]) for verdict in RuleVerdict))
    return table
