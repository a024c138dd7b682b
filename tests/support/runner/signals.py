"""Default signal handling for the programs that tests start."""

from __future__ import annotations

import signal
from typing import Any

INHERITED = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""The signals that a shell without job control (`&`) or nohup(1) lets its children ignore."""


def do_not_pass_on_ignored_signals() -> None:
    """Replace "ignore" by a handler that does nothing.

    This process still ignores the signals, but its children do not: execve(2) resets signals with a handler to the
    default action, and leaves ignored signals ignored.
    """
    for number in INHERITED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def _do_nothing(*_: Any) -> None:
    pass
