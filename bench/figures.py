"""One line of a bench, what was measured against what it should be; and the command lines of one and of many."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

Figure: TypeAlias = dict[str, Any]


def figure(name: str, unit: str, measured: float, target: str = "") -> Figure:
    """`target` is like ">= 0.9", or empty for what is only reported."""
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
    """Print them as a table."""
    for line in figures:
        mark = ("held" if line["holds"] else "MISSED") if line["target"] else ""
        print(
            f"{line['name']:58} {line['measured']:>12,.6g} {line['unit']:24} {line['target'] or '':9} {mark}"
        )


def run(figures: Callable[[], list[Figure]], description: str | None) -> None:
    """The command line of one bench."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    found = figures()
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


def run_all(
    benches: Mapping[str, str], results: Path, description: str | None, lacking: Sequence[str] = ()
) -> int:
    """The command line of many, modules by name. Exit status: 1 if a target is missed, 3 if the machine is `lacking`.

    What a bench found goes to `results` at once, whatever the next one meets; what others found before stays there.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=benches, metavar="NAME", help=", ".join(benches))
    chosen = parser.parse_args().only or list(benches)
    if lacking:
        print(*lacking, sep="\n", file=sys.stderr)
        return 3
    found: list[Figure] = []
    for name in chosen:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        figures: list[Figure] = import_module(benches[name]).figures()
        figures.append(figure("this bench took", "s", time.monotonic() - began))
        show(figures)
        lines = [{"bench": name, **line} for line in figures]
        _keep(lines, name, results)
        found += lines
    missed = [f"{line['bench']}: {line['name'].strip()}" for line in found if not line["holds"]]
    print(f"{len(found)} figures, {len(missed)} missed", *missed, sep="\n  ")
    return 1 if missed else 0


def _keep(found: list[Figure], name: str, results: Path) -> None:
    before: list[Figure] = json.loads(results.read_text()) if results.exists() else []
    results.parent.mkdir(exist_ok=True)
    lines = [line for line in before if line["bench"] != name] + found
    results.write_text(json.dumps(lines, indent=2) + "\n")
