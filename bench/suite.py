"""The command line of a suite of benchmarks, such as `python -m bench` and `python -m bench.kernel`.

Each benchmark is a module with a function `figures()`. Its figures are printed with their targets, and written to
the results file of the suite before the next benchmark starts. The exit status is 1 if a target is missed, 3 if the
machine lacks a requirement. No test depends on a benchmark.
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
    """Benchmarks by name, the fastest first. `missing` lists unmet requirements of the machine."""

    description: str
    benches: Mapping[str, str]
    results: Path
    missing: Callable[[], list[str]] = list

    def main(self) -> int:
        """Run the benchmarks that the command line names, by default all. Returns the exit status."""
        parser = argparse.ArgumentParser(description=self.description)
        names = ", ".join(self.benches)
        parser.add_argument("--only", action="append", choices=self.benches, metavar="NAME", help=names)
        chosen = parser.parse_args().only or list(self.benches)
        if lacking := self.missing():
            print(*lacking, sep="\n", file=sys.stderr)
            return 3
        measured = [line for name in chosen for line in self._measure(name)]
        missed = [f"{line['bench']}: {line['name'].strip()}" for line in measured if not line["holds"]]
        print(f"{len(measured)} figures, {len(missed)} missed", *missed, sep="\n  ")
        return 1 if missed else 0

    def _measure(self, name: str) -> list[Figure]:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        figures: list[Figure] = import_module(self.benches[name]).figures()
        figures.append(figure("duration of this benchmark", "s", time.monotonic() - began))
        show(figures)
        measured = [{"bench": name, **line} for line in figures]
        self._save(measured, name)
        return measured

    def _save(self, measured: list[Figure], name: str) -> None:
        """Replace this benchmark's figures in the results file, and keep those of other benchmarks."""
        before: list[Figure] = json.loads(self.results.read_text()) if self.results.exists() else []
        lines = [line for line in before if line["bench"] != name] + measured
        self.results.parent.mkdir(exist_ok=True)
        self.results.write_text(json.dumps(lines, indent=2) + "\n")
