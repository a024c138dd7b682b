"""The settings in `conftest.py` do what they are for, in a pytest run of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.supervision.supervisor import run as kernel_run
from tests.support import namespaces
from tests.support.kernel_marker import NEEDS_MARKER
from tests.support.paths import ROOT

PRINT_HANDLERS = "import signal; print(*(signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP)))"
DEFAULT_HANDLERS = "<built-in function default_int_handler> 0\n"
START_A_PROGRAM = f"""
import subprocess, sys
from tests.support.signals import do_not_pass_on_ignored_signals
do_not_pass_on_ignored_signals()
print(subprocess.check_output([sys.executable, "-c", {PRINT_HANDLERS!r}], text=True), end="")
"""


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def test_programs_handle_signals_that_the_test_run_ignores() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", START_A_PROGRAM],
        cwd=ROOT,
        preexec_fn=ignore_signals,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == DEFAULT_HANDLERS


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


async def never(_lab: KernelLab) -> None:
    raise AssertionError
