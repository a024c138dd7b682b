"""A measured figure with its target, and the command line of a single benchmark."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any, TypeAlias

Figure: TypeAlias = dict[str, Any]


def figure(name: str, unit: str, measured: float, target: str = "") -> Figure:
    """Return a figure; `target` is a bound such as ">= 0.9", or "" for a figure without one."""
    holds = True
    if target:
        relation, bound = target.split()
        holds = measured >= float(bound) if relation == ">=" else measured <= float(bound)
    return {
        "name": name,
        "unit": unit,
        "target": target or None,
        "measured": round(measured, 3),
        "holds": holds,
    }


def show(figures: list[Figure]) -> None:
    """Print figures as a table."""
    for line in figures:
        mark = ("met" if line["holds"] else "MISSED") if line["target"] else ""
        print(
            f"{line['name']:58} {line['measured']:>12,.6g} {line['unit']:24} {line['target'] or '':9} {mark}"
        )


def run(figures: Callable[[], list[Figure]], description: str | None) -> None:
    """Run the command line of a single benchmark; the first line of `description` is its help text."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    measured_figures = figures()
    if arguments.json:
        print(json.dumps(measured_figures, indent=2))
    else:
        show(measured_figures)
