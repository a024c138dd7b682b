"""Emulated devices need no driver library, and a missing library affects only its own driver."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT

LIBRARIES = ("pyroute2", "serial", "cffi", "hal.linux._ioctl")


def imports(*modules: str) -> subprocess.CompletedProcess[str]:
    """Import `modules` in a Python process where none of the libraries is available."""
    without = "".join(f"sys.modules[{library!r}] = None;" for library in LIBRARIES)
    program = f"import sys;{without}import {', '.join(modules)}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_traits_emulations_and_conformance_suite_need_no_driver_library() -> None:
    files = (ROOT / "hal/emul").glob("[!_]*.py")
    emulated = [f"hal.emul.{file.stem}" for file in files]
    result = imports("settings.board", "hal.contract", *emulated)
    assert result.returncode == 0, result.stderr


def test_the_compiled_module_is_needed_only_when_used() -> None:
    result = imports("hal.linux.disk", "hal.linux.clock", "hal.linux.watchdog", "hal.linux.indicators")
    assert result.returncode == 0, result.stderr
