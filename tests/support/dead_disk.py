"""`rap` with a disk on which a call never returns once FILE exists: `python -m tests.support.dead_disk FILE CALL …`.

The timeouts that end the program in this case are shortened, so that tests are fast.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agents.box.buffer
import agents.box.main
from hal.linux.disk import LinuxDisk
from rap.__main__ import main

agents.box.buffer.CLOSE_SECONDS_MAX = 0.5  # type: ignore[misc]
agents.box.main.THREADS_SECONDS_MAX = 0.5  # type: ignore[misc]


def hanging(call: Callable[..., Any], dead: Path) -> Callable[..., Any]:
    """Return a function that calls `call`, but never returns once the file `dead` exists."""

    def until_dead(*arguments: Any) -> Any:
        if dead.exists():
            threading.Event().wait()
        return call(*arguments)

    return until_dead


def run(dead: str, call: str, *arguments: str) -> int:
    setattr(LinuxDisk, call, hanging(getattr(LinuxDisk, call), Path(dead)))
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
