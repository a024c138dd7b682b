"""Exit statuses of `rap`, and the exceptions that lead to them."""

from __future__ import annotations

from typing import Final

OK: Final = 0
"""Success: the command was executed, and all checks passed."""
FAILED: Final = 1
"""The command was executed, and a check or an expectation failed."""
WRONG_INPUT: Final = 2
"""The input is wrong; nothing was changed."""
MACHINE_LACKS: Final = 3
"""The machine lacks something that the command needs."""
BUG: Final = 70
"""Internal error (EX_SOFTWARE of sysexits.h), distinct from a failed expectation."""


class CommandError(Exception):
    """Ends a command with an error message and the exit status `status`."""

    status: int = FAILED


class WrongInput(CommandError):
    """The input is wrong; the message names it and the correction."""

    status = WRONG_INPUT


class MachineLacks(CommandError):
    """The machine lacks something; the message says what to install."""

    status = MACHINE_LACKS
