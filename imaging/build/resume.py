"""Build steps whose results are kept, so that an interrupted build is resumed.

A result is a folder named after the step and the hash of its inputs. It gets this name when it is complete;
incomplete and outdated results are deleted. If two builds need the same result at the same time, one creates it and
the other waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

PARTIAL: Final = ".partial"


class Steps:
    """The kept results of steps in one folder.

    `report` is called with the name of each step and whether its earlier result is reused.
    """

    def __init__(self, folder: Path, report: Callable[[str, bool], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.absolute()
        self._report = report
        self._chain = b""

    def step(self, name: str, inputs: str, make: Callable[[Path], None]) -> Path:
        """Return the folder with the result of `make`, called only if the inputs or earlier steps have changed."""
        self._chain = hashlib.sha256(self._chain + f"{name}\0{inputs}".encode()).digest()
        result = self._folder / f"{name}-{self._chain.hex()[:16]}"
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._report(name, result.exists())
            if not result.exists():
                self._make(name, result, make)
        return result

    def _make(self, name: str, result: Path, make: Callable[[Path], None]) -> None:
        partial = result.with_name(name + PARTIAL)
        for old in (partial, *self._folder.glob(f"{name}-*")):
            shutil.rmtree(old) if old.exists() else None
        earlier = os.umask(0o022)  # the result must not depend on the user
        try:
            partial.mkdir()
            make(partial)
        finally:
            os.umask(earlier)
        partial.rename(result)
