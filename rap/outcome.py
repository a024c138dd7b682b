"""How a command ends. What it prints is for people; the exit status is for scripts."""

from __future__ import annotations

from typing import Final

HOLDS: Final = 0
"""It was done, and what was to hold holds."""
FAILED: Final = 1
"""It ran, and an expectation failed."""
WRONG_INPUT: Final = 2
"""The input was wrong; nothing was changed."""
MACHINE_LACKS: Final = 3
"""This machine lacks something."""
BUG: Final = 70
"""The program itself is wrong (EX_SOFTWARE of sysexits.h); never to be taken for a failed expectation."""


class CommandError(Exception):
    """A command cannot go on; the message is all the user sees."""

    status: int = FAILED


class WrongInput(CommandError):
    """What was given is wrong: the message names it, and says what would be right."""

    status = WRONG_INPUT


class MachineLacks(CommandError):
    """Something is not on this machine: the message says what to install."""

    status = MACHINE_LACKS
