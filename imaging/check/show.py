"""What people and programs see of a judgement: a table by category, then each fail with its reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from imaging.check.terms import SEVERITIES, Judgement, Verdict


def as_document(judgement: Judgement) -> dict[str, Any]:
    """What --json prints."""
    return {
        "verdict": "pass" if judgement.holds else "fail",
        "passed_share": round(judgement.passed_share, 4),
        "counts": judgement.counts(),
        "fails": [asdict(one) for one in judgement.fails],
        "left_out": {one.rule: one.reason for one in judgement.rules if one.verdict is Verdict.LEFT_OUT},
        "stale": list(judgement.stale),
    }


def show(judgement: Judgement, console: Console) -> None:
    """Print it."""
    console.print(_table(judgement))
    console.print(f"{judgement.passed_share:.1%} of what could be decided passes", highlight=False)
    for one in judgement.fails:
        reason = (
            one.reason or "NO REASON IS WRITTEN: repair it, or say why in firmware-image/stig/exceptions.toml"
        )
        console.print(
            f"\n{one.severity}: {one.rule}\n    {one.title}\n    {reason}", highlight=False, markup=False
        )
    left = Counter(one.reason for one in judgement.rules if one.verdict is Verdict.LEFT_OUT)
    if left:
        console.print("\nleft out, by name in firmware-image/stig/left-out.toml:", highlight=False)
    for reason, count in left.most_common():
        console.print(f"  {count:3}  {reason}", highlight=False, markup=False)
    for complaint in judgement.stale:
        console.print(complaint, highlight=False, markup=False)


def _table(judgement: Judgement) -> Table:
    table = Table("category", *map(str, Verdict))
    counts = judgement.counts()
    for severity in SEVERITIES:
        table.add_row(severity, *(str(counts[severity][str(verdict)]) for verdict in Verdict))
    return table
