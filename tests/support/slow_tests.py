"""Order and priority of tests in parallel runs, and a list of the slow ones with the reasons why they are slow.

A test that takes more than `SECONDS_MAX` on the two cores of continuous integration has the marker
`@pytest.mark.slow("reason")`. The reason is printed with the test at the end of a run; a test without one is listed,
too. Nothing fails by its duration, which depends on the machine.

Files with slow tests start first, those with the marker `kernel` before the others: their labs run in real time and
wait more than they compute. The other tests run at a lower priority, so that they do not delay real-time labs.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import pytest

SECONDS_MAX: Final = 10.0
NICE: Final = 5
WORKERS_PER_CORE: Final = 2
"""Tests of the kernel world wait for half of their time."""
_REASON: Final = "slow_reason"


class SlowTests:
    """A pytest plugin."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        ranks: dict[str, int] = {}
        for item in items:
            file = _file(item.nodeid)
            if marker := item.get_closest_marker("slow"):
                (reason,) = marker.args
                item.user_properties.append((_REASON, reason))
                ranks[file] = min(ranks.get(file, 1), int(item.get_closest_marker("kernel") is None))
        items.sort(key=lambda item: ranks.get(_file(item.nodeid), 2))

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
    """Return a line for each test of more than `SECONDS_MAX` with its setup, the slowest first, with its reason."""
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
