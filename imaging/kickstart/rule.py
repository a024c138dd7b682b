"""What a rule of the linter is, and the registry of all rules.

A rule is a function in a module of `rules/`, which is found without being named anywhere:

    @rule
    def duplicate_mount_point(case: Case) -> Faults:
        \"\"\"Anaconda takes one device for a mount point. Source: …\"\"\"
        yield LintFault(command.spot, "what is wrong", "what would be right")

A rule reports only what is certain: where a %pre script generates commands that cannot be known beforehand, it does
not report anything as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from imaging.kickstart.data import Installer
from imaging.kickstart.document import Document, Spot
from imaging.repository.repository import Repository, Resolution
from settings.board import Board


@dataclass(frozen=True, slots=True)
class Case:
    """A kickstart and what it is checked against; None for what is not known."""

    ks: Document
    installer: Installer
    repository: Repository | None = None
    resolution: Resolution | None = None
    board: Board | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LintFault:
    """A violation of a rule: the place, what is wrong, and the repair."""

    spot: Spot
    problem: str
    repair: str


Faults: TypeAlias = Iterator[LintFault]
Check: TypeAlias = Callable[[Case], Faults]

registered: dict[str, Check] = {}
"""The rules of the modules imported so far; `rules.all_rules` has all of them."""


def rule(check: Check) -> Check:
    """Register a function as a rule, named after the function; its docstring gives the reason and the source."""
    name = check.__name__.replace("_", "-")
    assert check.__doc__, f"rule {name} has no docstring"
    assert name not in registered, f"rule {name} is registered twice"
    registered[name] = check
    return check
