"""`rap trigger check` reports mistakes, conditions that cannot be met, and triggers that imply each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from rap.__main__ import main

LAMP = """\
model = "chemistry-analyzer"
severity = "warning"
component = "lamp"
text = "The lamp is weak"
when = "lamp-intensity-pct < 70"
"""
NO_SCORE = "; has no score: run `rap trigger test --write`"


def files(folder: Path, **limits: str) -> list[str]:
    """Trigger files with these conditions instead of < 70."""
    names = []
    for name, limit in limits.items():
        (file := folder / f"{name}.toml").write_text(LAMP.replace("< 70", limit))
        names.append(str(file))
    return names


def test_valid_triggers_are_listed_with_what_they_imply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak, weaker = files(tmp_path, weak="< 70", weaker="< 60")
    assert main(["trigger", "check", weak, weaker]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{weak}: chemistry-analyzer, warning: valid{NO_SCORE}",
        f"{weaker}: chemistry-analyzer, warning: valid; whenever it fires, so does {weak}{NO_SCORE}",
    ]


def test_impossible_conditions_and_mistakes_fail_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never, wrong, good = files(tmp_path, never="> 100", wrong="< lamp", good="< 70")
    assert main(["trigger", "check", never, wrong, good]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{never}: can never fire: no report meets the condition; correct `when`"
    assert lines[1].startswith(
        f"{wrong}:5: when: column 22: lamp is not in the profile of chemistry-analyzer; "
    )
    assert lines[2:] == [f"{good}: chemistry-analyzer, warning: valid{NO_SCORE}"]
