"""Steps whose results are kept: a build that was interrupted goes on where it was.

A result is a folder named after the step and the hash of all that it was made of. It gets its name when it is whole,
so that one that has its name is; what was begun is thrown away. Results that nobody asks for any more go, too. Where
two builds want the same result at once, one makes it and the other waits.
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
    """The results in one folder. `told` hears the name of each step, and whether it was kept from before."""

    def __init__(self, folder: Path, told: Callable[[str, bool], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.absolute()
        self._told = told
        self._chain = b""

    def step(self, name: str, inputs: str, make: Callable[[Path], None]) -> Path:
        """The result of `make`, called with an empty folder unless the same inputs and steps made it before."""
        self._chain = hashlib.sha256(self._chain + f"{name}\0{inputs}".encode()).digest()
        result = self._folder / f"{name}-{self._chain.hex()[:16]}"
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._told(name, result.exists())
            if not result.exists():
                self._make(name, result, make)
        return result

    def _make(self, name: str, result: Path, make: Callable[[Path], None]) -> None:
        partial = result.with_name(name + PARTIAL)
        for old in (partial, *self._folder.glob(f"{name}-*")):
            shutil.rmtree(old) if old.exists() else None
        usual = os.umask(0o022)  # a result is the same whoever makes it
        try:
            partial.mkdir()
            make(partial)
        finally:
            os.umask(usual)
        partial.rename(result)
