"""Settings for all tests: repeatable examples, skips, markers, signals, garbage collection, process state.

Property tests use the same examples in every run, without time limits, which a busy machine would exceed;
`HYPOTHESIS_PROFILE=explore` uses other examples. With `NO_SKIPS=1`, as in continuous integration, a skipped test
fails the run, since it checked nothing. A test whose reason begins with KERNEL_LACKS cannot run on this machine even
with all packages installed: it is listed and does not fail the run.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.crypto.hierarchy import Hierarchy
from tests.support.mounts import isolate_mounts
from tests.support.runner.garbage import FrozenTests
from tests.support.runner.kernel_marker import KernelMarkerGuard
from tests.support.runner.process_state import differences, process_state, restore
from tests.support.runner.signals import do_not_pass_on_ignored_signals
from tests.support.runner.slow_tests import WORKERS_PER_CORE, SlowTests

KERNEL_LACKS = "this kernel has no"

_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeat", _UNTIMED, derandomize=True)
settings.register_profile("explore", _UNTIMED, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Hierarchy:
    """Certificates of a box, its data center and its instruments, on loopback."""
    return Hierarchy.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def _only_emulated_machine() -> Iterator[None]:
    """Wait until no other test has an emulated machine: two at a time take minutes longer to start a box."""
    with (Path(tempfile.gettempdir()) / "rap-emulated-machine.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def _unchanged_process() -> Iterator[None]:
    """Fail a test that leaves the environment, import path, working directory or resource limits changed."""
    before = process_state()
    yield
    if changed := differences(before, process_state()):
        restore(before)
        pytest.fail("the test leaves the process changed: " + "; ".join(changed))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `--numprocesses auto`.

    The hook is here, because it is called before `pytest_configure` registers plugins.
    """
    return WORKERS_PER_CORE * len(os.sched_getaffinity(0)) + 1  # one for the tests with an emulated machine


def pytest_configure(config: pytest.Config) -> None:
    do_not_pass_on_ignored_signals()
    if os.geteuid() == 0:
        isolate_mounts()
    guard = KernelMarkerGuard()
    guard.install()
    config.pluginmanager.register(guard)
    config.pluginmanager.register(SlowTests())
    config.pluginmanager.register(FrozenTests())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("kernel"):
                item.add_marker(
                    pytest.mark.skip(reason="needs root, to create namespaces, links and rulesets")
                )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get("NO_SKIPS") and (skipped := reporter.stats.get("skipped")):
        for report in skipped:
            if KERNEL_LACKS in str(report.longrepr):
                reporter.write_line(f"not tried: {report.nodeid}: {report.longrepr}")
            else:
                reporter.write_line(
                    f"skipped, and with NO_SKIPS that fails: {report.nodeid}: {report.longrepr}"
                )
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
