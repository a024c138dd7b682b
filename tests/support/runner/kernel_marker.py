"""Refuses network namespaces to tests without the marker `kernel`, so that `-m "not kernel"` runs unprivileged.

Namespaces are created by unshare(2) in `tests.support.namespaces` and `sim.worlds.kernel`, by unshare(1) and by
ip-netns(8).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sim.worlds.kernel.namespaces import syscalls
from tests.support import namespaces

NEEDS_MARKER = "this test makes a network namespace, so it needs the marker `kernel`"


class KernelMarkerGuard:
    """A pytest plugin; `install` hooks into the functions that create namespaces."""

    def __init__(self) -> None:
        self._is_refused = False

    def install(self) -> None:
        """Check all later calls of this process that create a network namespace."""
        sys.addaudithook(self._on_audit_event)
        for module in (syscalls, namespaces):
            self._guard(module)

    def _guard(self, module: Any) -> None:
        unshare = module.unshare

        def guarded(kinds: int) -> None:
            self._check()
            unshare(kinds)

        module.unshare = guarded

    def _on_audit_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_refused and event == "subprocess.Popen" and _makes_network(arguments[1]):
            self._check()

    def _check(self) -> None:
        if self._is_refused:
            pytest.fail(NEEDS_MARKER)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._is_refused = item.get_closest_marker("kernel") is None
        try:
            return (yield)
        finally:
            self._is_refused = False


def _makes_network(command: Any) -> bool:
    argv = [os.fsdecode(argument) for argument in command] if isinstance(command, (list, tuple)) else []
    if not argv:
        return False
    program = Path(argv[0]).name
    return (program == "unshare" and any(option in ("--net", "-n") for option in argv)) or (
        program == "ip" and argv[1:3] == ["netns", "add"]
    )
