"""The settings in `conftest.py` take effect, partly shown by separate runs of pytest."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from textwrap import dedent

import pytest

from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.supervision.supervisor import run as kernel_run
from tests.support import namespaces
from tests.support.paths import ROOT
from tests.support.runner.child_pytest import child_environment
from tests.support.runner.kernel_marker import NEEDS_MARKER
from tests.support.runner.slow_tests import EMULATED, NICE, SlowTests, slow_lines

pytest_plugins = ["pytester"]

PRINT_HANDLERS = "import signal; print(*(signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP)))"
DEFAULT_HANDLERS = "<built-in function default_int_handler> 0\n"
START_A_PROGRAM = f"""
import subprocess, sys
from tests.support.runner.signals import do_not_pass_on_ignored_signals
do_not_pass_on_ignored_signals()
print(subprocess.check_output([sys.executable, "-c", {PRINT_HANDLERS!r}], text=True), end="")
"""


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def test_programs_handle_signals_that_the_test_run_ignores() -> None:
    result = subprocess.run(
        [sys.executable, "-c", START_A_PROGRAM],
        cwd=ROOT,
        preexec_fn=ignore_signals,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == DEFAULT_HANDLERS


@pytest.mark.parametrize("command", [["unshare", "--net", "true"], ["/usr/sbin/ip", "netns", "add", "x"]])
def test_a_command_that_makes_a_namespace_needs_the_marker(command: list[str]) -> None:
    with pytest.raises(pytest.fail.Exception, match=NEEDS_MARKER):
        subprocess.run(command, check=True)


def test_a_namespace_of_a_test_or_lab_needs_the_marker() -> None:
    with pytest.raises(pytest.fail.Exception, match=NEEDS_MARKER), namespaces.own_network():
        pass
    with pytest.raises(pytest.fail.Exception, match=NEEDS_MARKER):
        kernel_run("small", never)


@pytest.mark.kernel
def test_a_test_with_the_marker_makes_namespaces() -> None:
    outside = Path("/proc/thread-self/ns/net").readlink()
    with namespaces.own_network():
        assert Path("/proc/thread-self/ns/net").readlink() != outside


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_other_processes_do_not_see_the_mounts_of_a_test(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        assert str(tmp_path) in Path("/proc/self/mountinfo").read_text()
        assert str(tmp_path) not in Path(f"/proc/{os.getppid()}/mountinfo").read_text()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def report(nodeid: str, seconds: float, when: str = "call", reason: str = "") -> pytest.TestReport:
    return pytest.TestReport(
        nodeid,
        (nodeid, 1, nodeid),
        {},
        "passed",
        None,
        when,  # type: ignore[arg-type]
        duration=seconds,
        user_properties=[("slow_reason", reason)] if reason else [],
    )


def test_slow_tests_are_listed_with_their_setup_and_reason() -> None:
    lines = slow_lines(
        [
            report("a.py::quick", 10),
            report("a.py::waits", 4, "setup", "real time"),
            report("a.py::waits", 7, reason="real time"),
            report("a.py::unexplained", 12),
        ]
    )
    assert lines == [
        "  12.0 s a.py::unexplained: no reason stated; add @pytest.mark.slow",
        "  11.0 s a.py::waits: real time",
    ]


def test_every_folder_with_tests_is_collected(pytestconfig: pytest.Config) -> None:
    skipped = pytestconfig.getini("norecursedirs")
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(folders) > 50
    assert not [
        folder for folder in folders for name in folder.parts for glob in skipped if fnmatch(name, glob)
    ]


@pytest.mark.slow("starts a separate test run")
def test_a_parallel_run_has_two_workers_for_each_core_and_one_for_the_emulated_machine() -> None:
    command = [sys.executable, "-m", "pytest", "--numprocesses", "auto", "-v", "tests/settings/test_board.py"]
    result = subprocess.run(
        command, cwd=ROOT, env=child_environment(), check=True, capture_output=True, text=True
    )
    assert f"{2 * len(os.sched_getaffinity(0)) + 1} workers" in result.stdout


def test_files_with_slow_tests_start_first_alternately_with_those_of_the_kernel_world(
    pytester: pytest.Pytester,
) -> None:
    slow = "import pytest\n@pytest.mark.slow('x')\n"
    files = {
        "test_a": "def test(): pass",
        "test_b": f"def test_1(): pass\n{slow}def test_2(): pass",
        "test_c": f"{slow}def test(): pass",
        "test_d": f"{slow}@pytest.mark.kernel\ndef test(): pass",
        EMULATED[1].removesuffix(".py"): "def test(): pass",
    }
    (pytester.path / EMULATED[1]).parent.mkdir(parents=True)
    pytester.makepyfile(**files)
    pytester.makeini("[pytest]\nmarkers = kernel\n  slow\n")
    items, _ = pytester.inline_genitems()
    SlowTests().pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == [
        f"{EMULATED[1]}::test",
        "test_d.py::test",
        "test_b.py::test_2",
        "test_b.py::test_1",
        "test_c.py::test",
        "test_a.py::test",
    ]


def test_the_files_that_need_an_emulated_machine_or_its_image_are_listed() -> None:
    uses = re.compile(r"_only_emulated_machine|signed_image\(\)")
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if uses.search(path.read_text("utf-8"))]
    assert {str(path.relative_to(ROOT)) for path in files} - {"tests/test_conftest.py"} == {*EMULATED}


@pytest.mark.slow("starts a separate test run")
def test_one_worker_runs_the_files_with_emulated_machines_and_gets_no_other_file_meanwhile(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third test ends when the other worker, whichever is ready first, has run all other files."""
    others = [f"test_{number}" for number in range(12)]
    wait = """
        import os
        from pathlib import Path
        from tests.support.eventually import poll_until
        def wait_for(*names): poll_until(lambda: all(any(Path().glob(name)) for name in names))
    """
    writes = "def test_writes(): open(os.environ['PYTEST_XDIST_WORKER'], 'w').close()"
    waits = f"def test_waits(): wait_for(*{others})"
    for number, file in enumerate(EMULATED):
        (path := pytester.path / file).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(wait) + (waits if number == 2 else writes))
    late = "def test_1(): wait_for('gw*')\ndef test_2(): Path('{}').touch()"
    pytester.makepyfile(**{name: dedent(wait) + late.format(name) for name in others})
    pytester.makeconftest("""
        from tests.support.runner.slow_tests import SlowTests
        def pytest_configure(config): config.pluginmanager.register(SlowTests())
    """)
    # as in this repository: by default, pytest skips folders named "build"
    pytester.makeini("[pytest]\nnorecursedirs = .*")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    options = "-p xdist --numprocesses 2 --dist loadfile --no-loadscope-reorder --import-mode=importlib"
    run = pytester.runpytest_subprocess(*options.split())
    run.assert_outcomes(passed=len(EMULATED) + 2 * len(others))
    assert len([*pytester.path.glob("gw*")]) == 1


def test_a_test_that_leaves_the_process_changed_fails_and_the_next_one_is_undisturbed(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest("from tests.conftest import _unchanged_process")
    pytester.makepyfile("""
        import os, resource, sys
        def test_environment(): os.environ["LEFT"] = "behind"
        def test_import_path(): sys.path.append("/left")
        def test_folder(): os.chdir("/")
        def test_limits():
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (99, hard))
        def test_nothing(monkeypatch):
            assert "LEFT" not in os.environ and "/left" not in sys.path and os.getcwd() != "/"
            monkeypatch.setenv("SET", "and restored")
    """)
    pytester.syspathinsert(ROOT)
    run = pytester.runpytest_inprocess()
    run.assert_outcomes(passed=5, errors=4)
    for part in ("environment", "import_path", "folder", "limits"):
        run.stdout.fnmatch_lines([f"*leaves the process changed: {part}:*"])


def test_the_garbage_collector_does_not_visit_the_tests() -> None:
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can raise its priority again")
def test_a_test_without_the_marker_has_a_lower_priority() -> None:
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    assert priority == min(19, os.getpriority(os.PRIO_PROCESS, os.getppid()) + NICE)


@pytest.mark.kernel
def test_a_test_with_the_marker_keeps_the_priority_of_the_run() -> None:
    assert os.getpriority(os.PRIO_PROCESS, 0) == os.getpriority(os.PRIO_PROCESS, os.getppid())


async def never(_lab: KernelLab) -> None:
    raise AssertionError
