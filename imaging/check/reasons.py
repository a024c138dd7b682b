"""The verdicts from OpenSCAP's results and the written reasons in `firmware-image/stig/`.

    exceptions.toml   rules that may fail on a box, with the reason left-out.toml     rules that cannot be
    decided offline (`offline`), for an image (`image`), or with packages of the
                      mock repository (`mock_repo`)

A reason for a rule that passes, or that the profile does not have, is reported as stale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from imaging.check.types import Judged, Judgement, RuleVerdict, WrongCheck
from settings.problems import Problems, SettingsError
from settings.toml import loads, parse, read_text, read_value
from settings.types import Table

FOLDER: Final = Path(__file__).parents[2] / "firmware-image/stig"
EXCEPTIONS: Final = FOLDER / "exceptions.toml"
LEFT_OUT: Final = FOLDER / "left-out.toml"
_VERDICTS: Final = {
    "pass": RuleVerdict.PASS,
    "fixed": RuleVerdict.PASS,
    "notapplicable": RuleVerdict.NOT_APPLICABLE,
}
"""Verdicts by XCCDF result (XCCDF 1.2, table 26); every other result is a fail, "unknown" included."""
S = TypeVar("S", bound=msgspec.Struct)
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=20)]


class LeftOutGroup(Table, frozen=True):
    """Rules that are left out for one reason."""

    reason: Text
    rules: Annotated[list[str], msgspec.Meta(min_length=1)]


class LeftOutFile(Table, frozen=True):
    """The content of left-out.toml."""

    offline: list[LeftOutGroup]
    image: list[LeftOutGroup]
    mock_repo: list[LeftOutGroup]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The scanner's result for a rule; `result` is the XCCDF result."""

    rule: str
    severity: str
    title: str
    result: str


def load_exceptions(file: Path = EXCEPTIONS) -> dict[str, str]:
    """The reasons of exceptions.toml, by rule. Raises: WrongCheck, with all problems."""
    try:
        text = read_text(file)
        problems = Problems(file, text)
        reasons: dict[str, str] = read_value(dict[str, Text], parse(text, file), (), problems)
        problems.raise_if_any()
    except SettingsError as error:
        raise WrongCheck(str(error)) from None
    return reasons


def load_left_out(*, image: bool, mock_repo: bool, file: Path = LEFT_OUT) -> dict[str, str]:
    """The reasons for leaving out rules, by rule, for a folder, an image or mock packages. Raises: WrongCheck."""
    written = load(file, LeftOutFile)
    groups = [*written.offline, *(written.image if image else []), *(written.mock_repo if mock_repo else [])]
    return dict(by_rule(groups, file))


def judge(
    asked: Sequence[RuleResult], exceptions: Mapping[str, str], left_out: Mapping[str, str]
) -> Judgement:
    """Evaluate results by the written reasons."""
    judged = [_judge(one, exceptions, left_out) for one in asked]
    return Judgement(judged, [*_stale(judged, exceptions), *_unknown(judged, left_out)])


def _judge(one: RuleResult, exceptions: Mapping[str, str], left_out: Mapping[str, str]) -> Judged:
    if one.rule in left_out:
        return Judged(one.rule, one.severity, one.title, RuleVerdict.LEFT_OUT, left_out[one.rule])
    verdict = _VERDICTS.get(one.result, RuleVerdict.FAIL)
    reason = exceptions.get(one.rule, "") if verdict is RuleVerdict.FAIL else ""
    return Judged(one.rule, one.severity, one.title, verdict, reason)


def _stale(judged: Sequence[Judged], exceptions: Mapping[str, str]) -> Iterator[str]:
    verdicts = {one.rule: one.verdict for one in judged}
    for rule in exceptions:
        if rule not in verdicts:
            yield f"exceptions.toml: {rule}: the profile has no such rule; remove the reason"
        elif verdicts[rule] is RuleVerdict.PASS:
            yield f"exceptions.toml: {rule}: passes; remove the reason"


def _unknown(judged: Sequence[Judged], left_out: Mapping[str, str]) -> Iterator[str]:
    for rule in left_out.keys() - {one.rule for one in judged}:
        yield f"left-out.toml: {rule}: the profile has no such rule; remove it"


def by_rule(groups: Sequence[LeftOutGroup], file: Path) -> Iterator[tuple[str, str]]:
    """Each rule of the groups with its reason. Raises: WrongCheck, if a rule occurs twice."""
    seen: set[str] = set()
    for group in groups:
        for rule in group.rules:
            if rule in seen:
                raise WrongCheck(f"{file}: {rule}: is left out twice; remove one of the reasons")
            seen.add(rule)
            yield rule, group.reason


def load(file: Path, kind: type[S]) -> S:
    """Read a TOML file of this form. Raises: WrongCheck, with all problems."""
    try:
        return loads(read_text(file), file, kind)
    except SettingsError as error:
        raise WrongCheck(str(error)) from None
