"""A program that runs in a host of the lab.

The event loop watches a pidfd (pidfd_open(2)) for the end of the program.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from sim.engine.stalls import Stalled

KILL_SECONDS_MAX: Final = 60.0
"""How long the kernel may take to end a killed process."""
READY_SECONDS_MAX: Final = 170.0
"""How long a program may take to become ready: nearly the time limit of the whole lab's start, since programs compete
for a busy machine."""
_POLL_SECONDS: Final = 0.02


class LabProcess:
    """A running program, whose output is written to the file `log`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid = process.pid
        self.log = log
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._collect)

    def _collect(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._ended.set_result(self._process.wait())

    @property
    def returncode(self) -> int | None:
        """The exit status, the negative number of the signal that ended it, or None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait for the end of the program; returns `returncode`."""
        return await asyncio.shield(self._ended)

    async def ready(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()` is true. Raises: RuntimeError if the program ends first; Stalled after
        READY_SECONDS_MAX."""
        ends_at = self._loop.time() + READY_SECONDS_MAX
        while not holds():
            if self.returncode is not None:
                raise RuntimeError(f"{self.log.stem} ended during its start: {self.output()}")
            if self._loop.time() > ends_at:
                raise Stalled(
                    f"{self.log.stem} was not ready after {READY_SECONDS_MAX:.0f} s; its output: {self.output()}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if not self._ended.done():
            with suppress(ProcessLookupError):  # `kill_now` has collected it, and `_collect` comes next
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        self.send_signal(signal.SIGKILL)

    def kill_now(self) -> None:
        """Kill it, and wait until it has ended. Raises: Stalled if it does not end in KILL_SECONDS_MAX."""
        self.kill()
        try:
            self._process.wait(KILL_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Stalled(
                f"process {self.pid} ({self.log.stem}) did not end within {KILL_SECONDS_MAX:.0f} s of SIGKILL: "
                "it waits in a system call, probably for a disk"
            ) from None

    def output(self) -> str:
        """Return the output so far, standard output and standard error."""
        return self.log.read_text(errors="replace")
