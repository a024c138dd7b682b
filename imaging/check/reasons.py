"""The written reasons in `firmware-image/stig/`, and what they make of OpenSCAP's results.

    exceptions.toml   a rule that fails on a box, and why it may
    left-out.toml     rules that no tree can decide (`offline`), that one from an `image` or a `stand-in` cannot

A reason is only as good as its cause: one for a rule that passes, or that the profile does not have, is a complaint.
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
"""XCCDF 1.2, table 26; everything else that is not left out is a fail, so that nothing passes by not being asked."""
S = TypeVar("S", bound=msgspec.Struct)
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=20)]


class LeftOutGroup(Table, frozen=True):
    """Rules that are left out for the same reason."""

    reason: Text
    rules: Annotated[list[str], msgspec.Meta(min_length=1)]


class LeftOutFile(Table, frozen=True):
    """left-out.toml."""

    offline: list[LeftOutGroup]
    image: list[LeftOutGroup]
    mock_repo: list[LeftOutGroup]


@dataclass(frozen=True, slots=True)
class Asked:
    """A rule as the scanner answered it; `result` is XCCDF's word."""

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
    """Reasons by rule, of what no tree can decide, one copied out of an image, a stand-in's. Errors: WrongCheck."""
    written = load(file, LeftOutFile)
    groups = [*written.offline, *(written.image if image else []), *(written.mock_repo if mock_repo else [])]
    return dict(by_rule(groups, file))


def judge(asked: Sequence[Asked], exceptions: Mapping[str, str], left_out: Mapping[str, str]) -> Judgement:
    """What a system comes to by the written reasons."""
    judged = [_judge(one, exceptions, left_out) for one in asked]
    return Judgement(judged, [*_stale(judged, exceptions), *_unknown(judged, left_out)])


def _judge(one: Asked, exceptions: Mapping[str, str], left_out: Mapping[str, str]) -> Judged:
    if one.rule in left_out:
        return Judged(one.rule, one.severity, one.title, RuleVerdict.LEFT_OUT, left_out[one.rule])
    verdict = _VERDICTS.get(one.result, RuleVerdict.FAIL)
    reason = exceptions.get(one.rule, "") if verdict is RuleVerdict.FAIL else ""
    return Judged(one.rule, one.severity, one.title, verdict, reason)


def _stale(judged: Sequence[Judged], exceptions: Mapping[str, str]) -> Iterator[str]:
    verdicts = {one.rule: one.verdict for one in judged}
    for rule in exceptions:
        if rule not in verdicts:
            yield f"exceptions.toml: {rule}: the profile has no such rule; take the reason out"
        elif verdicts[rule] is RuleVerdict.PASS:
            yield f"exceptions.toml: {rule}: passes; take the reason out"


def _unknown(judged: Sequence[Judged], left_out: Mapping[str, str]) -> Iterator[str]:
    for rule in left_out.keys() - {one.rule for one in judged}:
        yield f"left-out.toml: {rule}: the profile has no such rule; take it out"


def by_rule(groups: Sequence[LeftOutGroup], file: Path) -> Iterator[tuple[str, str]]:
    """Each rule of the groups with its reason. Errors: WrongCheck, for one that is there twice."""
    seen: set[str] = set()
    for group in groups:
        for rule in group.rules:
            if rule in seen:
                raise WrongCheck(f"{file}: {rule}: is left out twice; one reason is enough")
            seen.add(rule)
            yield rule, group.reason


def load(file: Path, kind: type[S]) -> S:
    """A TOML file of this form. Raises: WrongCheck, with all problems."""
    try:
        return loads(read_text(file), file, kind)
    except SettingsError as error:
        raise WrongCheck(str(error)) from None
