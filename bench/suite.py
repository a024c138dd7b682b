"""The command line of several benches: runs those that are asked for, and keeps the figures of each at once.

    python -m bench.kernel [--only NAME …]

Prints target and measured, and writes them to the suite's file. The exit status is 1 if a target is missed, and 3 if
the machine lacks something.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from bench.figures import Figure, figure, show


@dataclass(frozen=True)
class Suite:
    """Benches by name, modules with `figures()`, the quick ones first; `missing` tells what the machine lacks."""

    description: str
    benches: Mapping[str, str]
    results: Path
    missing: Callable[[], list[str]]

    def main(self) -> int:
        parser = argparse.ArgumentParser(description=self.description)
        names = ", ".join(self.benches)
        parser.add_argument("--only", action="append", choices=self.benches, metavar="NAME", help=names)
        chosen = parser.parse_args().only or list(self.benches)
        if lacking := self.missing():
            print(*lacking, sep="\n", file=sys.stderr)
            return 3
        found = [line for name in chosen for line in self._measured(name)]
        missed = [f"{line['bench']}: {line['name'].strip()}" for line in found if not line["holds"]]
        print(f"{len(found)} figures, {len(missed)} missed", *missed, sep="\n  ")
        return 1 if missed else 0

    def _measured(self, name: str) -> list[Figure]:
        """The figures of one bench, and how long it took; kept at once, whatever the next one meets."""
        print(f"== {name}", flush=True)
        began = time.monotonic()
        figures: list[Figure] = import_module(self.benches[name]).figures()
        figures.append(figure("this bench took", "s", time.monotonic() - began))
        show(figures)
        found = [{"bench": name, **line} for line in figures]
        self._keep(found, name)
        return found

    def _keep(self, found: list[Figure], name: str) -> None:
        """Write them down; what other benches found before stays."""
        before: list[Figure] = json.loads(self.results.read_text()) if self.results.exists() else []
        lines = [line for line in before if line["bench"] != name] + found
        self.results.parent.mkdir(exist_ok=True)
        self.results.write_text(json.dumps(lines, indent=2) + "\n")
