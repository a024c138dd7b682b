"""The modules of tests/mutants.toml, and the score of one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from tools.mutants.source import Mutant, mutants_of
from tools.mutants.trial import NOT_IMPORTED, ProcessLimits, baseline, forked, preload, trial

BASELINE_SECONDS_MAX: Final = 1800
"""Processor seconds of a module's tests with the measurement of coverage."""
OTHERS_SECONDS_MAX: Final = 3
START_SECONDS_MAX: Final = 20
"""Processor seconds of pytest, imports and fixtures before the tests of a mutant."""
SLOWER_MAX: Final = 5
"""A mutant whose tests use this many times the processor time of the baseline counts as killed: it does not end."""
NEAR_LINES: Final = 8
NO_TESTS: Final = 5
"""pytest's exit status."""


class Module(Struct, frozen=True, kw_only=True):
    """Sources, and the tests that must kill their mutants: deterministic, fast, without kernel and processes."""

    name: str
    sources: list[str]
    tests: list[str]
    deselect: list[str] = []
    """Tests of these files that are left out."""
    left_out: list[str] = []
    """Files of tests in the folder of these tests that are left out."""


class Known(Struct, frozen=True, kw_only=True):
    """A mutant that survives, with the reason."""

    file: str
    scope: str = ""
    was: str
    becomes: str
    reason: Annotated[str, Meta(min_length=10)]

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.file, self.scope, self.was, self.becomes


class Modules(Struct, frozen=True, kw_only=True):
    """tests/mutants.toml."""

    score_min: float
    sample: int
    seed: int
    module: list[Module]
    equivalent: list[Known] = []
    """Mutants whose behavior does not differ from the program's."""
    gap: list[Known] = []
    """Mutants that a test could kill but none does; they count as survivors."""


class Broken(Exception):
    """A score cannot be measured; the message names the error to correct first."""


@dataclass
class MutationScore:
    """The counts of mutants of one module."""

    name: str
    killed: int = 0
    survived: int = 0
    gaps: int = 0
    """Survivors that are listed as gaps."""
    equivalent: int = 0

    @property
    def tried(self) -> int:
        return self.killed + self.survived + self.equivalent

    @property
    def value(self) -> float:
        return self.killed / counted if (counted := self.killed + self.survived) else 1.0


@dataclass
class Coverage:
    """The tests that execute each line, and the processor time of each test."""

    lines: dict[str, dict[str, list[str]]]
    seconds: dict[str, float]
    imports: list[str] = field(default_factory=list)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that can kill the mutant, the most promising first.

        All tests if its line is executed on import, or if the result of its function is cached.
        """
        contexts = self.lines.get(mutant.file, {}).get(str(mutant.line), [])
        everything = "" in contexts or not mutant.scope or mutant.is_cached
        return sorted(
            (
                nodeid
                for nodeid in self.seconds
                if everything or nodeid in contexts or f"{nodeid.partition('::')[0]}::" in contexts
            ),
            key=lambda nodeid: self._expected_seconds(nodeid, mutant),
        )

    def _expected_seconds(self, nodeid: str, mutant: Mutant) -> float:
        """Estimate the time until the test kills the mutant.

        A test that executes nearby lines which few other tests execute is likelier to kill it.
        """
        lines = self.lines.get(mutant.file, {})
        tests_of_lines = (
            lines.get(str(mutant.line + away), []) for away in range(-NEAR_LINES, NEAR_LINES + 1)
        )
        fewest = min((len(tests) for tests in tests_of_lines if nodeid in tests), default=len(self.seconds))
        return self.seconds[nodeid] * fewest


def measure(modules: Modules, module: Module, only: str, size: int | None, seed: int) -> MutationScore:
    """Try the mutants of a module, in the current directory. Raises: Broken."""
    mutants = [m for f in _files(module) for m in mutants_of(str(f), f.read_text("utf-8"))]
    _require_known(modules, mutants, module)
    mutants = [m for m in mutants if only in f"{m.file}:{m.scope}"]
    total = len(mutants)
    if size is not None and size < total:
        mutants = random.Random(seed).sample(mutants, size)
    output = Path("mutant-output.txt")
    covered = _covered(module, output)
    preload(covered.imports)
    print(f"{module.name}: {len(mutants)} of {total} mutants, {len(covered.seconds)} tests", flush=True)
    equivalent = {known.key for known in modules.equivalent}
    gaps = {known.key for known in modules.gap}
    score = MutationScore(module.name)
    for mutant in sorted(mutants, key=lambda m: (m.file, m.line)):
        if mutant.key in equivalent:
            score.equivalent += 1
        elif _killed(mutant, covered, output):
            score.killed += 1
        else:
            score.survived += 1
            score.gaps += mutant.key in gaps
            known = "gap" if mutant.key in gaps else "survived"
            print(
                f"  {known}: {mutant.file}:{mutant.line} {mutant.scope}\n"
                f"    - {mutant.lines[0]}\n    + {mutant.lines[1]}",
                flush=True,
            )
    return score


def _files(module: Module) -> Iterator[Path]:
    for source in map(Path, module.sources):
        if not source.exists():
            raise Broken(f"tests/mutants.toml: module {module.name}: there is no {source}")
        yield from [source] if source.is_file() else sorted(source.rglob("*.py"))


def _require_known(modules: Modules, mutants: list[Mutant], module: Module) -> None:
    known = (*modules.equivalent, *modules.gap)
    scopes = {(k.file, k.scope) for k in known}
    existing = {mutant.key for mutant in mutants if (mutant.file, mutant.scope) in scopes}
    files = {mutant.file for mutant in mutants}
    lost = [k for k in known if k.file in files and k.key not in existing]
    if lost:
        lines = [f"  {k.file}:{k.scope}: {k.was!r} becoming {k.becomes!r}" for k in lost]
        raise Broken(
            f"tests/mutants.toml lists mutants of {module.name} that no longer exist:\n"
            + "\n".join(lines)
            + "\ncorrect or remove these entries"
        )


def _covered(module: Module, output: Path) -> Coverage:
    result = Path("mutant-baseline.json")
    extra = [f"--deselect={nodeid}" for nodeid in module.deselect]
    limits = ProcessLimits(BASELINE_SECONDS_MAX)
    status = forked(lambda: baseline(module.tests, module.sources, extra, result), output, limits)
    if status:
        raise Broken(
            f"the tests of {module.name} fail without a mutant:\n{output.read_text('utf-8')[-3000:]}"
        )
    if status is None:
        raise Broken(
            f"the tests of {module.name} used {BASELINE_SECONDS_MAX} s of processor time, or waited for "
            f"{limits.idle_seconds:g} s:\n{output.read_text('utf-8')[-3000:]}"
        )
    measured: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return Coverage(measured["lines"], measured["seconds"], measured["imports"])


def _killed(mutant: Mutant, covered: Coverage, output: Path) -> bool:
    """Return whether a test fails: first those that execute the mutant's line, then all others if they are fast.

    A cached result or a module's fixture can affect tests that do not execute the line themselves.
    """
    tests = covered.tests_of(mutant)
    others = sorted(covered.seconds.keys() - set(tests))
    if not tests:
        return False
    if not _passes(mutant, tests, covered, output):
        return True
    is_fast = sum(map(covered.seconds.__getitem__, others)) < OTHERS_SECONDS_MAX
    return bool(others) and is_fast and not _passes(mutant, others, covered, output)


def _passes(mutant: Mutant, tests: list[str], covered: Coverage, output: Path) -> bool:
    limits = ProcessLimits(START_SECONDS_MAX + SLOWER_MAX * sum(covered.seconds[nodeid] for nodeid in tests))
    name = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    status = forked(lambda: trial(name, Path(mutant.file), mutant.code, tests), output, limits)
    if status == NOT_IMPORTED and covered.tests_of(mutant) == tests:
        raise Broken(f"the tests import {name} from elsewhere, so that no mutant is tried")
    if status == NO_TESTS:
        raise Broken(
            f"no test was found for {mutant.file}:{mutant.line}:\n{output.read_text('utf-8')[-3000:]}"
        )
    return status in (0, NOT_IMPORTED)
