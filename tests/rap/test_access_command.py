"""`rap access`: its output and exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from rap.__main__ import main

STAFF = """
[staff.engineer]
roles = ["service-engineer"]
scope = ["country/DE"]
trainings = { hematology-analyzer = 2026-10-01 }
"""
EXPLAIN = ["access", "explain", "engineer", "open-session", "Instrument:HEMA-0001"]
WHERE = ["country=DE", "model=hematology-analyzer"]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "staff.toml").write_text(STAFF)
    return str(tmp_path / "staff.toml")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_explain_prints_the_decision_and_its_reason(
    directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*EXPLAIN, *WHERE, "--directory", directory, "--at"]
    assert run(capsys, *arguments, "2026-09-30T23:59:59Z") == (
        0,
        "permitted: permitted by policy control-desktop\n",
    )
    status, text = run(capsys, *arguments, "2026-10-01T00:00:00Z")
    assert status == 1
    assert text.endswith("no valid training for hematology-analyzer, expired 2026-10-01\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["access", "explain", "engineer", "open-sesion", "Instrument:H"],
            "unknown action open-sesion: did you mean open-session?",
        ),
        (
            ["access", "explain", "engineer", "view", "Instument:H"],
            "unknown type Instument: did you mean Instrument?",
        ),
        (["access", "explain", "engineer", "view", "Instrument"], "write Instrument:NAME"),
        ([*EXPLAIN, "modle=x"], "modle=x: write KEY=VALUE; KEY did you mean model?"),
        ([*EXPLAIN, "--purpose", "servise"], "unknown purpose servise: did you mean service?"),
        ([*EXPLAIN, "--at", "yesterday"], "yesterday is not a time; write it like 2026-10-01T12:00:00Z"),
        ([*EXPLAIN, "--at", "2026-10-01"], "needs an offset from UTC"),
        ([*EXPLAIN, "--token", "x"], "there is no API token x"),
    ],
)
def test_wrong_input_is_refused_with_the_correction(
    directory: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, text = run(capsys, *arguments, "--directory", directory)
    assert status == 2
    assert message in text


def test_check_reports_mistakes_of_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, first, second = (tmp_path / f"{name}.cedar" for name in ("right", "first", "second"))
    right.write_text('@id("a") permit (principal in Role::"viewer", action == Action::"view", resource);')
    first.write_text('\n@id("b") permit (principal in Role::"viewr", action, resource);')
    second.write_text('@id("c") permit (principal, action, resource)')
    assert run(capsys, "access", "check", str(right)) == (0, "1 policies: valid\n")
    status, text = run(capsys, "access", "check", str(first), str(second), str(right))
    assert status == 1
    assert f"{first}:2: unknown role" in text
    assert f"{second}:1: the policy is not complete" in text


def test_check_reports_policies_without_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.cedar"
    file.write_text(
        '@id("a") permit (principal, action == Action::"view", resource);\n'
        '@id("b") @reason("r") forbid (principal, action, resource);\n'
    )
    status, text = run(capsys, "access", "check", str(file))
    assert (status, text) == (
        1,
        f"{file}:1: a: has no effect: other policies forbid every request that it permits\n",
    )


def test_prove_prints_a_counterexample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies, theorems = tmp_path / "p.cedar", tmp_path / "t.toml"
    policies.write_text(
        '@id("a") permit (principal in Role::"viewer", action == Action::"view", resource is Site);'
    )
    theorems.write_text(
        '[[theorem]]\nname = "active"\ntext = "Only active staff."\nnever = "!principal.active"\n'
        '[[theorem]]\nname = "role"\ntext = "Only viewers."\nnever = \'!(principal in Role::"viewer")\'\n'
    )
    status, text = run(capsys, "access", "prove", str(policies), "--theorems", str(theorems))
    assert status == 1
    assert "FALSE    active               Only active staff.\n         person-" in text
    assert "not active) may see Site site-" in text
    assert "proven   role " in text
    assert text.endswith("1 theorems proven, 1 false\n")


def test_prove_without_a_file_of_theorems_is_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = run(capsys, "access", "prove", "--theorems", str(tmp_path / "none.toml"))
    assert (status, "cannot be read" in text) == (2, True)


def test_prove_reports_the_mistakes_of_policies_and_of_theorems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = tmp_path / "a.cedar", tmp_path / "b.cedar"
    for file in files:
        file.write_text("permit principal;")
    (theorems := tmp_path / "t.toml").write_text("[[theorem]]\nname = 3\n")
    status, text = run(capsys, "access", "prove", *map(str, files), "--theorems", str(theorems))
    assert status == 2
    assert all(f"{file}:" in text for file in (*files, theorems))
