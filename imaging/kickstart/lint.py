"""The linter: applies every rule to a kickstart and lists the findings by line.

ksvalidator checks the syntax only. A kickstart that passes it can still stop an installation with a question, or
install an unintended system. How to write a rule: `imaging.kickstart.rule`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging.kickstart.data import installers, releases
from imaging.kickstart.document import read, stated_version
from imaging.kickstart.rule import Case, Check, severity
from imaging.kickstart.rules import all_rules
from imaging.repository.repository import Repository
from settings.board import Board


@dataclass(frozen=True, slots=True, order=True)
class LintFinding:
    """A fault and the rule that reports it.

    `severity` is "error" or "warning"; `source` is the docstring of the rule.
    """

    file: str
    line: int
    severity: str
    rule: str
    problem: str
    repair: str
    source: str


@dataclass(frozen=True, slots=True)
class LintReport:
    """The findings for one kickstart; `version` is the syntax that it was checked against."""

    path: Path
    version: str
    findings: list[LintFinding]


class UnknownVersion(Exception):
    """The kickstart is for a version of Anaconda without rules; the message lists the known versions."""


def lint(
    path: Path,
    release: str = "",
    repositories: Sequence[Repository] = (),
    board: Board | None = None,
    disk_bytes: int | None = None,
) -> LintReport:
    """Check the kickstart in `path` for `release`, or, if that is "", for the version that the file itself states.

    `repositories` are those to install from, `board` is the box's board, and `disk_bytes` the size of its disk; rules
    that need a missing one are skipped.

    Raises: KickstartUnreadable, UnknownVersion.
    """
    version = version_of(path, release)
    ks = read(path, version)
    repository = Repository.joined(repositories) if repositories else None
    resolution = repository.resolve(ks.packages) if repository and ks.packages else None
    case = Case(ks, installers()[version], repository, resolution, board, disk_bytes)
    return LintReport(path, version, findings(case))


def findings(case: Case) -> list[LintFinding]:
    """Return the findings of all rules without duplicates, sorted by file and line."""
    return sorted(
        {
            LintFinding(
                fault.location.file,
                fault.location.line,
                severity(name, fault),
                name,
                fault.problem,
                fault.repair,
                _source(check),
            )
            for name, check in all_rules().items()
            for fault in check(case)
        }
    )


def version_of(path: Path, release: str = "") -> str:
    """Return pykickstart's name of the syntax to check against, such as "RHEL9". Raises: UnknownVersion."""
    if release:
        if release not in releases():
            raise UnknownVersion(f"there is no release {release!r}; use one of {', '.join(releases())}")
        return releases()[release].version
    known = list(installers())
    stated = stated_version(path).partition(".")[0]  # "RHEL9.4" has the syntax of RHEL9
    if stated not in ("", "DEVEL", *known):
        raise UnknownVersion(
            f"{path}: is for {stated}; there are rules for {', '.join(known)}: choose one with --release"
        )
    return stated if stated in known else known[0]


def _source(check: Check) -> str:
    return " ".join((inspect.getdoc(check) or "").split())
