"""Folders that take long to create, shared by the workers of a test run."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder of this name that the session's workers share; the first worker creates it."""
    worker = factory.getbasetemp()
    shared = worker.parent if worker.name.startswith("popen-") else worker
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / name).exists():
            make(shared / f"{name}.making")
            (shared / f"{name}.making").rename(shared / name)
    return shared / name
