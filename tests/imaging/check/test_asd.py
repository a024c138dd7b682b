"""The checklist of the ASD STIG is complete, its evidence exists, and no rule of category I is open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imaging.check.asd import CHECKLIST, missing_evidence, open_of_category_one, read_checklist
from imaging.check.types import InvalidCheckInput
from rap.__main__ import main
from rap.outcome import OK
from tests.support.commands import commands


def test_all_evidence_exists() -> None:
    assert missing_evidence(read_checklist(), commands()) == []


def test_no_rule_of_category_one_is_open() -> None:
    findings = read_checklist()
    assert open_of_category_one(findings) == []
    assert len(findings) == 286
    assert sum(one.rule.severity == "high" for one in findings) == 34


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"V-222425", ', "", "V-222425: not assessed"),
        ('"V-222425", ', '"V-222425", "V-222425", ', "V-222425: is assessed twice"),
        ('"V-222425", ', '"V-222425", "V-1", ', "V-1: is not a rule of the STIG"),
    ],
)
def test_a_rule_without_one_verdict_is_refused(old: str, new: str, problem: str, tmp_path: Path) -> None:
    text = CHECKLIST.read_text("utf-8")
    assert old in text
    changed = tmp_path / "checklist.toml"
    changed.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidCheckInput, match=problem):
        read_checklist(checklist=changed)


@pytest.mark.parametrize(
    "wrong",
    ["tests/imaging/check/test_asd.py::test_that_nobody_wrote", "no/such/file.py", "rap no such command"],
)
def test_evidence_that_does_not_exist_is_found(wrong: str, tmp_path: Path) -> None:
    changed = tmp_path / "checklist.toml"
    changed.write_text(CHECKLIST.read_text("utf-8").replace('"rap access prove"', json.dumps(wrong), 1))
    known = commands()
    assert missing_evidence(read_checklist(checklist=changed), known) == [wrong]


def test_the_command_prints_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "asd", "--json"]) == OK
    document = json.loads(capsys.readouterr().out)
    assert document["counts"]["CAT I"]["open"] == 0
    assert len(document["rules"]) == 286
    assert main(["trust", "asd"]) == OK
    assert "V-222425 CAT I met" in capsys.readouterr().out
