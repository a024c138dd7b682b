"""Build steps whose results are kept, so that an interrupted build is resumed.

A result is a folder named after the step and the hash of its inputs. It gets this name when it is complete;
incomplete and outdated results are deleted. If two builds need the same result at the same time, one creates it and
the other waits. A result that another build uses is kept: each build has a shared lock on the results that it uses.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

PARTIAL: Final = ".partial"


class Steps:
    """The kept results of steps in one folder, which no other build deletes until the end of the `with` statement.

    `report` is called with the name of each step and whether its earlier result is reused.
    """

    def __init__(self, folder: Path, report: Callable[[str, bool], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.absolute()
        self._report = report
        self._chain = b""
        self._in_use: list[int] = []
        """File descriptors of results with a shared lock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._in_use:
            os.close(self._in_use.pop())

    def step(self, name: str, inputs: str, make: Callable[[Path], None]) -> Path:
        """Return the folder with the result of `make`, called only if the inputs or earlier steps have changed."""
        self._chain = hashlib.sha256(self._chain + f"{name}\0{inputs}".encode()).digest()
        result = self._folder / f"{name}-{self._chain.hex()[:16]}"
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._report(name, result.exists())
            if not result.exists():
                self._make(name, result, make)
            self._in_use.append(os.open(result, os.O_RDONLY))
            fcntl.flock(self._in_use[-1], fcntl.LOCK_SH)
        return result

    def _make(self, name: str, result: Path, make: Callable[[Path], None]) -> None:
        partial = result.with_name(name + PARTIAL)
        if partial.exists():
            shutil.rmtree(partial)
        for old in self._folder.glob(f"{name}-*"):
            _delete_unless_in_use(old)
        earlier = os.umask(0o022)  # the result must not depend on the user
        try:
            partial.mkdir()
            make(partial)
        finally:
            os.umask(earlier)
        partial.rename(result)


def _delete_unless_in_use(result: Path) -> None:
    descriptor = os.open(result, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
    shutil.rmtree(result)
