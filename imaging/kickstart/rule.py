"""The type of the linter's rules, and the registry of all rules.

A rule is a function in a module of `rules/`; rules are discovered automatically:

    @rule
    def duplicate_mount_point(case: Case) -> Faults:
        \"\"\"Each mount point has one device. Source: …\"\"\"
        yield LintFault(command.location, "what is wrong", "how to correct it")

`@rule` registers an error: Anaconda refuses or fails, or the system does not start or differs from the kickstart.
`@risk` registers a warning: the system works, but is less secure than it should be or depends on the machine.

A rule reports only certain faults: if a %pre script generates commands that cannot be known beforehand, it reports
nothing as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from imaging.kickstart.data import Installer
from imaging.kickstart.document import KickstartDocument, SourceLocation
from imaging.repository.repository import Repository, Resolution
from settings.board import Board


@dataclass(frozen=True, slots=True)
class Case:
    """A kickstart and the data that it is checked against; unknown data is None."""

    ks: KickstartDocument
    installer: Installer
    repository: Repository | None = None
    resolution: Resolution | None = None
    board: Board | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LintFault:
    """A violation of a rule: the location, the problem, and the repair.

    `risky` makes it a warning, although the rule reports errors.
    """

    location: SourceLocation
    problem: str
    repair: str
    risky: bool = False


Faults: TypeAlias = Iterator[LintFault]
Check: TypeAlias = Callable[[Case], Faults]

registered: dict[str, Check] = {}
"""The rules of the modules imported so far; `rules.all_rules` has all of them."""
_risks: set[str] = set()


def rule(check: Check) -> Check:
    """Register a function as a rule, named after the function; its docstring gives the reason and the source."""
    name = rule_name(check)
    assert check.__doc__, f"rule {name} has no docstring"
    assert name not in registered, f"rule {name} is registered twice"
    registered[name] = check
    return check


def risk(check: Check) -> Check:
    """Register a function as a rule whose findings are warnings."""
    _risks.add(rule_name(check))
    return rule(check)


def rule_name(check: Check) -> str:
    """Return the name of a rule, derived from the name of its function."""
    return check.__name__.replace("_", "-")


def severity(name: str, fault: LintFault) -> str:
    """Return the severity of a fault that the rule `name` found: "error" or "warning"."""
    return "warning" if fault.risky or name in _risks else "error"
