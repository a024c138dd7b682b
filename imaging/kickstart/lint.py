"""The linter: every rule on one kickstart, and what they find, in the order of lines.

ksvalidator looks at syntax. A kickstart can pass it and still stop an installation at three in the morning, or finish
one that is not what was asked for. A rule is a function in a module of `rules/`, found there by itself:

    @rule
    def duplicate_mount_point(case: Case) -> Faults:
        \"\"\"Anaconda takes one device for a mount point. Source: …\"\"\"
        yield Fault(command.spot, "what is wrong", "what would be right")

Rules say only what they are sure of: where a %pre script makes commands that cannot be known, what is missing is not
missed.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from imaging.kickstart import rules
from imaging.kickstart.data import Installer, installers, releases
from imaging.kickstart.document import Document, Spot, read, stated_version
from imaging.repository.repository import Repository, Resolution
from settings.board import Board


@dataclass(frozen=True, slots=True)
class Case:
    """One kickstart and what it is meant for; None where nobody said."""

    ks: Document
    installer: Installer
    repository: Repository | None = None
    resolution: Resolution | None = None
    board: Board | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LintFault:
    """What a rule says: where, what is wrong, and the repair."""

    spot: Spot
    problem: str
    repair: str


Faults: TypeAlias = Iterator[LintFault]
Check: TypeAlias = Callable[[Case], Faults]


@dataclass(frozen=True, slots=True, order=True)
class LintFinding:
    """A fault with the rule that found it; `source` is the rule's docstring."""

    file: str
    line: int
    rule: str
    problem: str
    repair: str
    source: str


@dataclass(frozen=True, slots=True)
class LintReport:
    """What came out for one kickstart."""

    path: Path
    version: str
    findings: list[LintFinding]


class UnknownVersion(Exception):
    """A kickstart for an installer that there are no rules for; the message says which there are."""


_checks: dict[str, Check] = {}


def rule(check: Check) -> Check:
    """Make a function a rule; its name is the rule's, its docstring says what for and where it stands."""
    name = check.__name__.replace("_", "-")
    assert check.__doc__, f"rule {name} does not say where it comes from"
    assert name not in _checks, f"two rules are called {name}"
    _checks[name] = check
    return check


@cache
def all_rules() -> dict[str, Check]:
    """Every rule by name."""
    for module in pkgutil.iter_modules(rules.__path__):
        import_module(f"{rules.__name__}.{module.name}")
    return dict(sorted(_checks.items()))


def lint(
    path: Path,
    release: str = "",
    repositories: Sequence[Repository] = (),
    board: Board | None = None,
    disk_bytes: int | None = None,
) -> LintReport:
    """Check the kickstart in `path`, for a release or for the version that it states itself.

    Errors: KickstartUnreadable, UnknownVersion.
    """
    version = version_of(path, release)
    ks = read(path, version)
    repository = Repository.joined(repositories) if repositories else None
    resolution = repository.resolve(ks.packages) if repository and ks.packages else None
    case = Case(ks, installers()[version], repository, resolution, board, disk_bytes)
    return LintReport(path, version, findings(case))


def findings(case: Case) -> list[LintFinding]:
    """What all rules have against it, each once, by file and line."""
    return sorted(
        {
            LintFinding(fault.spot.file, fault.spot.line, name, fault.problem, fault.repair, _source(check))
            for name, check in all_rules().items()
            for fault in check(case)
        }
    )


def version_of(path: Path, release: str = "") -> str:
    """pykickstart's name of the syntax to judge by. Errors: UnknownVersion."""
    if release:
        if release not in releases():
            raise UnknownVersion(f"there is no release {release!r}; there are {', '.join(releases())}")
        return releases()[release].version
    known = list(installers())
    stated = stated_version(path).partition(".")[0]  # "RHEL9.4" is RHEL9's syntax
    if stated not in ("", "DEVEL", *known):
        raise UnknownVersion(
            f"{path}: is for {stated}; there are rules for {', '.join(known)}: say which with --release"
        )
    return stated if stated in known else known[0]


def _source(check: Check) -> str:
    return " ".join((inspect.getdoc(check) or "").split())
