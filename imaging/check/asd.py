"""The Application Security and Development STIG as a checklist: each rule with its verdict, and the evidence for it.

`firmware-image/stig/asd/` has the rules and the checklist. Evidence is a test of this repository ("FILE::test"), a
file, or a command ("rap …"). A test checks that all evidence exists, and that no rule of category I is open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

from imaging.check.reasons import FOLDER, Text
from imaging.check.types import InvalidCheckInput
from settings.problems import SettingsError
from settings.toml import load
from settings.types import Table

AsdVerdict: TypeAlias = Literal["met", "not applicable", "organization", "open"]
REPOSITORY: Final = FOLDER.parents[1]
RULES: Final = FOLDER / "asd/rules.toml"
CHECKLIST: Final = FOLDER / "asd/checklist.toml"
CATEGORIES: Final[dict[Literal["high", "medium", "low"], str]] = {"high": "I", "medium": "II", "low": "III"}


class AsdRule(Table, frozen=True):
    """A rule as DISA published it."""

    stig: str
    severity: Literal["high", "medium", "low"]
    title: str


class AsdRules(Table, frozen=True):
    """The content of rules.toml."""

    version: str
    rule: dict[str, AsdRule]


class MetGroup(Table, frozen=True):
    """Rules that are met, with an explanation and the evidence; with a `condition`, only where it holds."""

    text: Text
    rules: Annotated[list[str], Meta(min_length=1)]
    evidence: Annotated[list[str], Meta(min_length=1)]
    condition: str = ""


class OtherGroup(Table, frozen=True):
    """Rules that are not met by the repository, with the reason."""

    reason: Text
    rules: Annotated[list[str], Meta(min_length=1)]


class AsdChecklist(Table, frozen=True):
    """The content of checklist.toml."""

    met: list[MetGroup] = []
    not_applicable: list[OtherGroup] = []
    organization: list[OtherGroup] = []
    open: list[OtherGroup] = []


@dataclass(frozen=True)
class AsdFinding:
    """A rule with its verdict."""

    id: str
    rule: AsdRule
    verdict: AsdVerdict
    text: str
    evidence: tuple[str, ...] = ()
    condition: str = ""


def read_checklist(rules: Path = RULES, checklist: Path = CHECKLIST) -> list[AsdFinding]:
    """Return each rule with its verdict.

    Raises: InvalidCheckInput, if a rule has no verdict or several, or is unknown.
    """
    try:
        known, written = load(rules, AsdRules).rule, load(checklist, AsdChecklist)
    except SettingsError as error:
        raise InvalidCheckInput(str(error)) from None
    assessed: dict[str, AsdFinding] = {}
    for ident, verdict, text, evidence, condition in _rows(written):
        if ident not in known or ident in assessed:
            problem = "is assessed twice" if ident in assessed else "is not a rule of the STIG"
            raise InvalidCheckInput(f"{checklist}: {ident}: {problem}; remove it")
        assessed[ident] = AsdFinding(ident, known[ident], verdict, text, evidence, condition)
    if missing := sorted(known.keys() - assessed.keys()):
        raise InvalidCheckInput(f"{checklist}: {', '.join(missing)}: not assessed; add each to a group")
    return [assessed[ident] for ident in known]


def _rows(written: AsdChecklist) -> Iterator[tuple[str, AsdVerdict, str, tuple[str, ...], str]]:
    for group in written.met:
        yield from ((one, "met", group.text, tuple(group.evidence), group.condition) for one in group.rules)
    others: list[tuple[AsdVerdict, list[OtherGroup]]] = [
        ("not applicable", written.not_applicable),
        ("organization", written.organization),
        ("open", written.open),
    ]
    for verdict, groups in others:
        yield from ((one, verdict, other.reason, (), "") for other in groups for one in other.rules)


def missing_evidence(
    findings: list[AsdFinding], commands: frozenset[str], root: Path = REPOSITORY
) -> list[str]:
    """Return the evidence that does not exist: a file, a test in its file, a command of `rap`."""
    named = dict.fromkeys(evidence for one in findings for evidence in one.evidence)
    return [evidence for evidence in named if not evidence_exists(evidence, commands, root)]


def evidence_exists(evidence: str, commands: frozenset[str], root: Path = REPOSITORY) -> bool:
    """Return whether a file, a test in its file, or a command of `rap` exists."""
    if evidence.startswith("rap "):
        return evidence.removeprefix("rap ") in commands
    path, _, test = evidence.partition("::")
    file = root / path
    return file.is_file() and (not test or f"def {test}(" in file.read_text("utf-8"))


def counts(findings: list[AsdFinding]) -> dict[str, dict[str, int]]:
    """Return the number of rules by category and verdict."""
    count = Counter((one.rule.severity, one.verdict) for one in findings)
    verdicts: tuple[AsdVerdict, ...] = ("met", "not applicable", "organization", "open")
    return {f"CAT {name}": {v: count[severity, v] for v in verdicts} for severity, name in CATEGORIES.items()}


def open_of_category_one(findings: list[AsdFinding]) -> list[AsdFinding]:
    """Return the rules of category I that are open."""
    return [one for one in findings if one.rule.severity == "high" and one.verdict == "open"]
