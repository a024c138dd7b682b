"""Verdicts, computed from OpenSCAP's results and the written reasons in `firmware-image/stig/`.

    exceptions.toml   rules that may fail on a box, with the reason: in every profile, or under [profile.NAME]
    left-out.toml     rules that cannot be decided offline (`offline`), for an image (`image`), or with packages of
                      the mock repository (`mock_repo`)

Each benchmark has a folder with these two files, because names and checks of rules differ between publishers and
versions; `reasons_folder` selects it. A reason for a rule that passes, or that does not exist, is reported as stale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from imaging.check.content import Benchmark, short_profile
from imaging.check.types import Evaluation, InvalidCheckInput, RuleEvaluation, RuleVerdict
from settings.problems import Problems, SettingsError
from settings.toml import loads, parse, read_text, read_value
from settings.types import Table

FOLDER: Final = Path(__file__).parents[2] / "firmware-image/stig"
EXCEPTIONS: Final = FOLDER / "exceptions.toml"
LEFT_OUT: Final = FOLDER / "left-out.toml"
NOT_SELECTED: Final = "notselected"
"""The XCCDF result of a rule that the content has and the profile does not select."""
_FOLDERS: Final = {
    ("xccdf_org.ssgproject.content_benchmark_RHEL-9", "0.1.65"): FOLDER,
    ("xccdf_org.ssgproject.content_benchmark_RHEL-9", ""): FOLDER / "ssg-rhel9",
    ("xccdf_org.ssgproject.content_benchmark_RHEL-10", ""): FOLDER / "ssg-rhel10",
    ("xccdf_mil.disa.stig_benchmark_RHEL_9_STIG", ""): FOLDER / "disa-rhel9",
}
"""The folder with the reasons for a benchmark, by its id and version; "" stands for any other version."""
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

    offline: list[LeftOutGroup] = []
    image: list[LeftOutGroup] = []
    mock_repo: list[LeftOutGroup] = []


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The scanner's result for a rule; `result` is the XCCDF result."""

    rule: str
    severity: str
    title: str
    result: str


@dataclass(frozen=True)
class Reasons:
    """The written reasons for an evaluation, by rule; the rules in `own` have a reason for this profile only."""

    exceptions: Mapping[str, str]
    left_out: Mapping[str, str]
    own: Collection[str]

    def evaluate(self, results: Sequence[RuleResult]) -> Evaluation:
        """Evaluate results by these reasons."""
        return evaluate(results, self.exceptions, self.left_out, self.own)


def load_reasons(
    benchmark: Benchmark, profile: str, exceptions: Path | None = None, *, image: bool, mock_repo: bool
) -> Reasons:
    """Return the reasons for a profile (its id) of a benchmark; `exceptions` replaces the box's exceptions.toml.

    Raises: InvalidCheckInput.
    """
    folder = reasons_folder(benchmark)
    file = exceptions or (folder / EXCEPTIONS.name if folder else None)
    everywhere, by_profile = _read_exceptions(file) if file else ({}, {})
    own = by_profile.get(short_profile(profile), {})
    left_out = load_left_out(image=image, mock_repo=mock_repo, file=folder / LEFT_OUT.name) if folder else {}
    return Reasons({**everywhere, **own}, left_out, frozenset(own))


def reasons_folder(benchmark: Benchmark) -> Path | None:
    """Return the folder with the reasons for a benchmark, or None if there is none."""
    name = benchmark.identifier
    return _FOLDERS.get((name, benchmark.version)) or _FOLDERS.get((name, ""))


def load_exceptions(file: Path = EXCEPTIONS, profile: str = "stig") -> dict[str, str]:
    """Return the reasons of exceptions.toml for a profile, by rule. Raises: InvalidCheckInput, with all problems."""
    reasons, by_profile = _read_exceptions(file)
    return {**reasons, **by_profile.get(profile, {})}


def _read_exceptions(file: Path) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    try:
        text = read_text(file)
        problems = Problems(file, text)
        tables = parse(text, file)
        profiles = tables.pop("profile", {})
        reasons: dict[str, str] = read_value(dict[str, Text], tables, (), problems)
        kind = dict[str, dict[str, Text]]
        by_profile: dict[str, dict[str, str]] = read_value(kind, profiles, ("profile",), problems)
        problems.raise_if_any()
    except SettingsError as error:
        raise InvalidCheckInput(str(error)) from None
    return reasons, by_profile


def load_left_out(*, image: bool, mock_repo: bool, file: Path = LEFT_OUT) -> dict[str, str]:
    """Return the reasons to leave out rules, by rule; `image` and `mock_repo` add those for images and mock packages.

    Raises: InvalidCheckInput.
    """
    written = load(file, LeftOutFile)
    groups = [*written.offline, *(written.image if image else []), *(written.mock_repo if mock_repo else [])]
    return dict(by_rule(groups, file))


def evaluate(
    results: Sequence[RuleResult],
    exceptions: Mapping[str, str],
    left_out: Mapping[str, str],
    own: Collection[str] = (),
) -> Evaluation:
    """Evaluate results by the written reasons; the rules in `own` have a reason for this profile only."""
    evaluated = [_evaluate(one, exceptions, left_out) for one in results if one.result != NOT_SELECTED]
    others = {one.rule for one in results if one.result == NOT_SELECTED}
    expected = {rule: reason for rule, reason in exceptions.items() if rule not in others or rule in own}
    expected_left_out = {rule: reason for rule, reason in left_out.items() if rule not in others}
    return Evaluation(evaluated, [*_stale(evaluated, expected), *_unknown(evaluated, expected_left_out)])


def _evaluate(one: RuleResult, exceptions: Mapping[str, str], left_out: Mapping[str, str]) -> RuleEvaluation:
    if one.rule in left_out:
        return RuleEvaluation(one.rule, one.severity, one.title, RuleVerdict.LEFT_OUT, left_out[one.rule])
    verdict = _VERDICTS.get(one.result, RuleVerdict.FAIL)
    reason = exceptions.get(one.rule, "") if verdict is RuleVerdict.FAIL else ""
    return RuleEvaluation(one.rule, one.severity, one.title, verdict, reason)


def _stale(evaluated: Sequence[RuleEvaluation], exceptions: Mapping[str, str]) -> Iterator[str]:
    verdicts = {one.rule: one.verdict for one in evaluated}
    for rule in exceptions:
        if rule not in verdicts:
            yield f"exceptions.toml: {rule}: the profile has no such rule; remove the reason"
        elif verdicts[rule] is RuleVerdict.PASS:
            yield f"exceptions.toml: {rule}: passes; remove the reason"


def _unknown(evaluated: Sequence[RuleEvaluation], left_out: Mapping[str, str]) -> Iterator[str]:
    for rule in left_out.keys() - {one.rule for one in evaluated}:
        yield f"left-out.toml: {rule}: the profile has no such rule; remove it"


def by_rule(groups: Sequence[LeftOutGroup], file: Path) -> Iterator[tuple[str, str]]:
    """Yield each rule of the groups with its reason. Raises: InvalidCheckInput, if a rule occurs twice."""
    seen: set[str] = set()
    for group in groups:
        for rule in group.rules:
            if rule in seen:
                raise InvalidCheckInput(f"{file}: {rule}: is left out twice; remove one of the reasons")
            seen.add(rule)
            yield rule, group.reason


def load(file: Path, kind: type[S]) -> S:
    """Read the TOML file as a value of the type `kind`. Raises: InvalidCheckInput, with all problems."""
    try:
        return loads(read_text(file), file, kind)
    except SettingsError as error:
        raise InvalidCheckInput(str(error)) from None
