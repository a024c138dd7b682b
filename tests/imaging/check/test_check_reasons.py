"""Results of a scan are evaluated with the written reasons for exceptions and left-out rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.check.content import Benchmark
from imaging.check.reasons import (
    EXCEPTIONS,
    LEFT_OUT,
    NOT_SELECTED,
    RuleResult,
    evaluate,
    load_exceptions,
    load_left_out,
    load_reasons,
    reasons_folder,
)
from imaging.check.show import as_document
from imaging.check.types import InvalidCheckInput, RuleVerdict

WHY = "a reason that is long enough to be valid"


def _scanned(**results: str) -> list[RuleResult]:
    return [RuleResult(rule, "medium", f"about {rule}", result) for rule, result in results.items()]


def test_each_scanner_result_has_its_verdict() -> None:
    scanned = _scanned(a="pass", b="fail", c="notapplicable", d="unknown", e="error", f="notchecked")
    verdicts = {one.rule: one.verdict for one in evaluate(scanned, {}, {"f": WHY}).rules}
    assert verdicts == {
        "a": RuleVerdict.PASS,
        "b": RuleVerdict.FAIL,
        "c": RuleVerdict.NOT_APPLICABLE,
        "d": RuleVerdict.FAIL,
        "e": RuleVerdict.FAIL,
        "f": RuleVerdict.LEFT_OUT,
    }


def test_a_failure_is_accepted_only_with_its_reason() -> None:
    scanned = _scanned(a="pass", b="fail")
    assert not evaluate(scanned, {}, {}).passed
    evaluation = evaluate(scanned, {"b": WHY}, {})
    assert evaluation.passed
    assert [(one.rule, one.reason) for one in evaluation.fails] == [("b", WHY)]
    assert evaluation.passed_share == 0.5


@pytest.mark.parametrize(
    ("exceptions", "left_out", "message"),
    [
        ({"a": WHY}, {}, "exceptions.toml: a: passes; remove the reason"),
        ({"z": WHY}, {}, "exceptions.toml: z: the profile has no such rule; remove the reason"),
        ({}, {"z": WHY}, "left-out.toml: z: the profile has no such rule; remove it"),
    ],
)
def test_an_unneeded_reason_is_a_finding(
    exceptions: dict[str, str], left_out: dict[str, str], message: str
) -> None:
    evaluation = evaluate(_scanned(a="pass"), exceptions, left_out)
    assert list(evaluation.stale) == [message]
    assert not evaluation.passed


def test_a_reason_for_one_profile_does_not_apply_to_others(tmp_path: Path) -> None:
    file = tmp_path / "exceptions.toml"
    file.write_text(f'everywhere = "{WHY}"\n[profile.cis]\nonly_cis = "{WHY}"\n')
    benchmark = Benchmark("xccdf_org.somebody_benchmark_X", "1", ("xccdf_org.somebody_profile_cis",))
    cis = load_reasons(benchmark, benchmark.profiles[0], file, image=True, mock_repo=True)
    other = load_reasons(benchmark, "xccdf_org.somebody_profile_stig", file, image=True, mock_repo=True)
    scanned = _scanned(everywhere="fail", only_cis="fail")
    assert cis.evaluate(scanned).passed
    assert [one.rule for one in other.evaluate(scanned).fails if not one.reason] == ["only_cis"]


def test_a_rule_that_the_profile_does_not_select_needs_no_reason(tmp_path: Path) -> None:
    file = tmp_path / "exceptions.toml"
    file.write_text(f'everywhere = "{WHY}"\n[profile.cis]\nonly_cis = "{WHY}"\n')
    benchmark = Benchmark("xccdf_org.somebody_benchmark_X", "1", ("xccdf_org.somebody_profile_cis",))
    cis = load_reasons(benchmark, benchmark.profiles[0], file, image=True, mock_repo=True)
    evaluation = cis.evaluate(_scanned(everywhere=NOT_SELECTED, only_cis=NOT_SELECTED, other=NOT_SELECTED))
    assert evaluation.rules == []
    assert evaluation.stale == ["exceptions.toml: only_cis: the profile has no such rule; remove the reason"]
    assert evaluate(_scanned(a=NOT_SELECTED), {"a": WHY}, {"a": WHY}).stale == []


def test_a_benchmark_without_written_reasons_has_none() -> None:
    unknown = load_reasons(Benchmark("xccdf_x_benchmark_y", "1", ()), "stig", image=True, mock_repo=True)
    assert unknown.exceptions == {} and unknown.left_out == {}


def test_left_out_rules_are_not_counted() -> None:
    evaluation = evaluate(_scanned(a="pass", b="fail"), {"b": WHY}, {"b": WHY})
    assert evaluation.passed and evaluation.passed_share == 1.0
    assert as_document(evaluation)["counts"]["medium"] == {
        "pass": 1,
        "fail": 0,
        "not applicable": 0,
        "left out": 1,
    }
    assert as_document(evaluation)["left_out"] == {"b": WHY}


def test_the_most_severe_finding_is_first() -> None:
    scanned = [RuleResult(name, severity, "", "fail") for name, severity in (("a", "low"), ("b", "high"))]
    assert [one.rule for one in evaluate(scanned, {}, {}).fails] == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rule = "short"', "length >= 20"),
        ("rule = 3", "must be a string, not a whole number"),
        ("rule =", "Invalid value"),
    ],
)
def test_invalid_exceptions_are_reported(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "exceptions.toml"
    file.write_text(text)
    with pytest.raises(InvalidCheckInput, match=message) as caught:
        load_exceptions(file)
    assert str(file) in str(caught.value)
    with pytest.raises(InvalidCheckInput, match="cannot be read"):
        load_exceptions(tmp_path / "nothing")


def test_a_rule_left_out_twice_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "left-out.toml"
    group = f'reason = "{WHY}"\nrules = ["a"]\n'
    file.write_text(f"image = []\n[[offline]]\n{group}[[mock_repo]]\n{group}")
    assert load_left_out(image=True, mock_repo=False, file=file) == {"a": WHY}
    with pytest.raises(InvalidCheckInput, match="a: is left out twice"):
        load_left_out(image=True, mock_repo=True, file=file)


def test_a_mock_repo_leaves_out_more_rules_than_an_image_and_an_image_more_than_a_tree() -> None:
    tree = load_left_out(image=False, mock_repo=False)
    image = load_left_out(image=True, mock_repo=False)
    mock_repo = load_left_out(image=True, mock_repo=True)
    assert tree.items() < image.items() < mock_repo.items()


@pytest.mark.parametrize(
    ("identifier", "version", "folder"),
    [
        ("xccdf_org.ssgproject.content_benchmark_RHEL-9", "0.1.65", "stig"),
        ("xccdf_org.ssgproject.content_benchmark_RHEL-9", "0.1.83", "ssg-rhel9"),
        ("xccdf_org.ssgproject.content_benchmark_RHEL-10", "0.1.83", "ssg-rhel10"),
        ("xccdf_mil.disa.stig_benchmark_RHEL_9_STIG", "002.009", "disa-rhel9"),
    ],
)
def test_each_benchmark_has_its_own_reasons(identifier: str, version: str, folder: str) -> None:
    folder_of_reasons = reasons_folder(Benchmark(identifier, version, ()))
    assert folder_of_reasons is not None and folder_of_reasons.name == folder
    assert load_exceptions(folder_of_reasons / EXCEPTIONS.name)
    assert load_left_out(image=True, mock_repo=True, file=folder_of_reasons / LEFT_OUT.name)
