"""Forced exit of the process if an orderly shutdown takes too long.

A disk or database call that does not return cannot be interrupted, and the interpreter waits for its threads before
it exits. Therefore a timer in a daemon thread ends the process when the time for an orderly shutdown is over.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

ExitReason = Callable[[], tuple[int, str]]
"""Returns the exit status, and the reason for the message, when the time is over."""


class ForcedExit:
    """Ends the process at a deadline. `arm` it when the shutdown begins."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def arm(self, seconds: float, exit_reason: ExitReason) -> None:
        """End the process in `seconds` unless it has ended by then; replaces an earlier deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, _end, (exit_reason,))
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """Cancel the deadline: the shutdown has completed in time."""
        if self._timer is not None:
            self._timer.cancel()


def _end(exit_reason: ExitReason) -> None:
    status, reason = exit_reason()
    with suppress(OSError, ValueError):  # standard error may be closed, or a pipe without a reader
        os.set_blocking(sys.stderr.fileno(), False)
        os.write(sys.stderr.fileno(), f"rap: {reason}\n".encode())
    os._exit(status)
