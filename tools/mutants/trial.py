"""Runs the tests of one mutant in a forked process with limits, which imports the mutant instead of the module.

The parent has imported pytest and all other packages, but nothing of the project, so that a fork needs only the
project's own imports. No file is written: the mutant exists only in the memory of its process.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import coverage
import pytest

MEMORY_BYTES_MAX: Final = 4 << 30
NOT_IMPORTED: Final = 71
"""Exit status: the tests passed without the mutant, because the original module was imported."""


class MutantFinder:
    """Import hook that loads one module from source text instead of its file."""

    def __init__(self, name: str, file: Path, code: str) -> None:
        self._name, self._file, self._code = name, file, code
        self.loaded = False

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        package = [str(self._file.parent)] if self._file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name,
            self._file,
            loader=self,  # type: ignore[arg-type]
            submodule_search_locations=package,
        )

    def create_module(self, _spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self.loaded = True
        compiled: CodeType = compile(self._code, str(self._file), "exec")
        exec(compiled, module.__dict__)  # noqa: S102


class Chosen:
    """pytest plugin that runs only these tests, in this order, and records each one's processor time and lines."""

    def __init__(self, nodeids: Sequence[str] | None, measured: coverage.Coverage | None = None) -> None:
        self._order = {nodeid: i for i, nodeid in enumerate(nodeids or ())}
        self._measured = measured
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._order:
            items[:] = sorted(
                (item for item in items if item.nodeid in self._order), key=lambda i: self._order[i.nodeid]
            )

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._context(f"{item.nodeid.partition('::')[0]}::")  # fixtures may serve the whole file

    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._context(item.nodeid)

    def pytest_runtest_teardown(self) -> None:
        self._context("")

    def _context(self, name: str) -> None:
        if self._measured is not None:
            self._measured.switch_context(name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        before = processor_seconds()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = processor_seconds() - before


@dataclass(frozen=True)
class ProcessLimits:
    """Limits after which a forked process is killed. `processor_seconds` does not depend on the load of the machine.

    The processor time includes all descendants of the process in its session.
    """

    processor_seconds: float
    idle_seconds: float = 60.0
    """A process is assumed to be blocked if none of its session runs or waits for a processor for this long."""
    wall_seconds: float = 7200.0
    """Catches processes that are neither idle nor making progress."""


def forked(work: Callable[[], int], output: Path, limits: ProcessLimits) -> int | None:
    """Run `work` in a forked process, its output in a file. Return its exit status; None if it exceeded a limit."""
    if not (pid := os.fork()):
        status = 70
        try:
            os.setsid()
            _limit_memory()
            _redirect(output)
            status = int(work())
        finally:
            sys.stdout.flush()
            os._exit(status)
    ended = _wait(pid, limits)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WEXITSTATUS(status) if ended and os.WIFEXITED(status) else None


def _wait(pid: int, limits: ProcessLimits) -> bool:
    """Wait until the process has ended or exceeded a limit. Return whether it has ended."""
    process = os.pidfd_open(pid)
    try:
        started = busy_at = time.monotonic()
        before = 0.0
        while True:
            if select.select([process], [], [], min(limits.idle_seconds / 10, 1.0))[0]:
                return True
            used, is_runnable = _session(pid)
            now = time.monotonic()
            if used != before or is_runnable:
                busy_at, before = now, used
            if (
                used > limits.processor_seconds
                or now - busy_at > limits.idle_seconds
                or now - started > limits.wall_seconds
            ):
                return False
    finally:
        os.close(process)


def _session(session: int) -> tuple[float, bool]:
    """Return the processor seconds of a session's processes and ended children, and whether one is runnable.

    A process is runnable if it is running, or waits for a processor or a disk: proc_pid_stat(5).
    """
    ticks, is_runnable = 0, False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended
            fields = stat.read_text("utf-8").rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += sum(map(int, fields[11:15]))  # utime to cstime
                is_runnable |= fields[0] in "RD"
    return ticks / os.sysconf("SC_CLK_TCK"), is_runnable


def processor_seconds() -> float:
    """Return the processor seconds of this process and of its ended children."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _redirect(output: Path) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)


def run_tests(files: Sequence[str], chosen: Chosen, extra: Sequence[str] = ()) -> int:
    """Run pytest on these files. Return its exit status."""
    options = [
        "-x",
        "-q",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-m",
        "not kernel",
        *extra,
    ]
    return int(pytest.main([*options, *files], plugins=[chosen]))


def baseline(files: Sequence[str], sources: Sequence[str], extra: Sequence[str], result: Path) -> int:
    """Run the tests without a mutant; write each one's executed lines and times, and the imported packages."""
    included = [str(Path(source).absolute() / ("*" if Path(source).is_dir() else "")) for source in sources]
    measured = coverage.Coverage(include=included, data_file=None, config_file=False)
    chosen = Chosen(None, measured)
    measured.start()
    status = run_tests(files, chosen, extra)
    measured.stop()
    data = measured.get_data()
    lines = {str(Path(f).relative_to(Path.cwd())): data.contexts_by_lineno(f) for f in data.measured_files()}
    here = str(Path.cwd())
    others = [
        name
        for name, module in list(sys.modules.items())
        if not str(getattr(module, "__file__", None) or here).startswith(here) and "__main__" not in name
    ]
    result.write_text(json.dumps({"lines": lines, "seconds": chosen.seconds, "imports": others}), "utf-8")
    return status


def preload(names: Sequence[str]) -> None:
    """Import third-party packages, once for all mutants."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def trial(module: str, file: Path, code: str, nodeids: Sequence[str]) -> int:
    """Run these tests on a mutant. Return pytest's exit status, or NOT_IMPORTED."""
    finder: Any = MutantFinder(module, file.absolute(), code)
    sys.meta_path.insert(0, finder)
    files = list(dict.fromkeys(nodeid.partition("::")[0] for nodeid in nodeids))
    status = run_tests(files, Chosen(nodeids))
    return status if status or finder.loaded else NOT_IMPORTED
