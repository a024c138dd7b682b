"""The end of the process in bounded time, also while one of its threads waits for something that never happens.

A call of the disk or the database that does not return cannot be interrupted, and the interpreter waits for its
threads before it exits. A timer in a daemon thread therefore ends the process once the time for an orderly end is
over.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

Verdict = Callable[[], tuple[int, str]]
"""The exit status, and the reason for the message, when the time is over."""


class LastResort:
    """Ends the process when its time is over. `arm` it when the end begins."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def arm(self, seconds: float, verdict: Verdict) -> None:
        """End the process in so many seconds unless it has ended by then; replaces what was armed before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, _end, (verdict,))
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """The end has come in time: the process may go on."""
        if self._timer is not None:
            self._timer.cancel()


def _end(verdict: Verdict) -> None:
    status, reason = verdict()
    with suppress(OSError, ValueError):  # nobody may be reading, or standard error may be closed
        os.set_blocking(sys.stderr.fileno(), False)
        os.write(sys.stderr.fileno(), f"rap: {reason}\n".encode())
    os._exit(status)
