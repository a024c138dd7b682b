"""Order and priority of tests in parallel runs, and a list of the slow ones with the reasons why they are slow.

A test that takes more than `SECONDS_MAX` on the two cores of continuous integration has the marker
`@pytest.mark.slow("reason")`. The reason is printed with the test at the end of a run; a test without one is listed,
too. Nothing fails by its duration, which depends on the machine.

The files that need an emulated machine or its image start first, one after another in one worker: only one machine
may run, and tests in other workers would wait for it. Then files with slow tests follow, alternately those with the
marker `kernel`, whose labs run in real time and wait more than they compute, and others. In a file the slow tests
come first: a worker gets its next file before the last test of a file begins, and keeps it. Tests without the marker
`kernel` run at a lower priority, so that they do not delay real-time labs.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

SECONDS_MAX: Final = 10.0
NICE: Final = 5
WORKERS_PER_CORE: Final = 2
"""Tests of the kernel world wait for half of their time."""
EMULATED: Final = (
    "tests/imaging/build/test_build_boot.py",
    "tests/sim/worlds/image/test_image_world.py",
    "tests/imaging/build/test_build_labels.py",
    "tests/imaging/build/test_build_slot.py",
)
"""The files with tests that need an emulated machine or its image, in their order."""
_REASON: Final = "slow_reason"


_KERNEL, _SLOW, _OTHER = range(3)
"""Files with a slow test of the kernel world, with another slow test, and without one."""


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Assigns each file to one worker, and all files in `EMULATED` to the same worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return EMULATED[0] if file in EMULATED else file

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker its next file only when one test of the previous file is left."""
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


class SlowTests:
    """A pytest plugin for the order and priority of tests, and for the list of slow ones."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> FileScheduling | None:
        return FileScheduling(config, log) if config.getoption("dist") == "loadfile" else None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Let each worker begin the collection at another file.

        The first worker that imports a file rewrites its assertions, which takes half of the collection time; the
        others read the cached byte code. The order of the tests does not depend on the order of the collection.
        """
        config = session.config
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        if workers > 1 and config.args == config.getini("testpaths"):
            files = sorted(str(path) for root in config.args for path in Path(root).rglob("test_*.py"))
            first = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) * len(files) // workers
            config.args = [*files[first:], *files[:first]]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kinds: dict[str, int] = {}
        for item in items:
            file = _file(item.nodeid)
            kinds.setdefault(file, _OTHER)
            if marker := item.get_closest_marker("slow"):
                (reason,) = marker.args
                item.user_properties.append((_REASON, reason))
                kinds[file] = min(
                    kinds[file], _SLOW if item.get_closest_marker("kernel") is None else _KERNEL
                )
        of_kind = {
            kind: [file for file in sorted(kinds) if kinds[file] == kind] for kind in (_KERNEL, _SLOW, _OTHER)
        }
        alternately = chain.from_iterable(zip_longest(of_kind[_KERNEL], of_kind[_SLOW]))
        ordered = [*EMULATED, *(file for file in alternately if file), *of_kind[_OTHER]]
        ranks = {file: rank for rank, file in reversed([*enumerate(ordered)])}
        items.sort(key=lambda item: (ranks[_file(item.nodeid)], item.get_closest_marker("slow") is None))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        if os.geteuid() != 0 or item.get_closest_marker("kernel"):  # only root can raise its priority again
            return (yield)
        before = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, before + NICE)
        try:
            return (yield)
        finally:
            os.setpriority(os.PRIO_PROCESS, 0, before)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        stats = terminalreporter.stats
        reports = [report for kind in ("passed", "failed", "error") for report in stats.get(kind, ())]
        if lines := slow_lines([*reports, *stats.get("", ())]):
            terminalreporter.section(f"tests of more than {SECONDS_MAX:g} s")
            for line in lines:
                terminalreporter.write_line(line)


def slow_lines(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Return a line with duration and reason for each test of more than `SECONDS_MAX` (with setup), slowest first."""
    seconds: dict[str, float] = defaultdict(float)
    reasons: dict[str, object] = {}
    for report in reports:
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid] += report.duration
            if _REASON in (properties := dict(report.user_properties)):
                reasons[report.nodeid] = properties[_REASON]
    slow = sorted((taken, nodeid) for nodeid, taken in seconds.items() if taken > SECONDS_MAX)
    return [
        f"{taken:6.1f} s {nodeid}: {reasons.get(nodeid, 'no reason stated; add @pytest.mark.slow')}"
        for taken, nodeid in reversed(slow)
    ]


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
