"""The state of the test process that children inherit: a test that leaves it changed would disturb later ones."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

_LIMITS: Final = (resource.RLIMIT_STACK, resource.RLIMIT_NOFILE, resource.RLIMIT_AS)


class ProcessState(NamedTuple):
    """The state that a child process inherits, and the import path."""

    environment: dict[str, str]
    import_path: list[str]
    folder: Path
    limits: list[tuple[int, int]]


def process_state() -> ProcessState:
    """Return the state of this process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return ProcessState(
        environment, list(sys.path), Path.cwd(), [resource.getrlimit(limit) for limit in _LIMITS]
    )


def restore(state: ProcessState) -> None:
    """Restore a state of this process."""
    for name in set(os.environ) - set(state.environment) - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    os.environ.update(state.environment)
    sys.path[:] = state.import_path
    os.chdir(state.folder)
    for limit, values in zip(_LIMITS, state.limits, strict=True):
        resource.setrlimit(limit, values)


def differences(before: ProcessState, after: ProcessState) -> list[str]:
    """Return the parts of the state that differ, with their removed and added items."""
    parts = zip(ProcessState._fields, map(_items, before), map(_items, after), strict=True)
    return [
        f"{name}: {[item for item in old if item not in new]} became {[item for item in new if item not in old]}"
        for name, old, new in parts
        if old != new
    ]


def _items(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return sorted(part.items())
    return part if isinstance(part, list) else [part]
