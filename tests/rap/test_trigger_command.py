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
    """Write one trigger file per limit, which replaces "< 70" in LAMP; return the paths."""
    names = []
    for name, limit in limits.items():
        (file := folder / f"{name}.toml").write_text(LAMP.replace("< 70", limit))
        names.append(str(file))
    return names


def test_valid_triggers_are_listed_with_the_triggers_they_imply(
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


WRONG = """\
model = "chemistry-analyzer"
severity = "urgent"
component = "lampp"
text = "The lamp is weak"
parts = ["Halogen lamp", "Deuterium lamp"]
when = "mean(lamp-intensity, 1h) < 70 or count(S0101, 1d) > 3 and not mean(vacuum-pa, 5) < 3"
until = "mean(lamp-intensity-pct, 1h) >"
lasts = "soon"
sevrity = "error"
"""
SILENCE = """\
of = "box"
model = "chemistry-analyzer"
silence = "soon"
severity = "urgent"
"""


def test_all_mistakes_of_all_files_are_reported_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (wrong := tmp_path / "wrong.toml").write_text(WRONG)
    (other := tmp_path / "other.toml").write_text(WRONG.replace("chemistry-analyzer", "chemistry"))
    (silence := tmp_path / "silence.toml").write_text(SILENCE)
    (scores := tmp_path / "scores.toml").write_text("[demanded]\nrecal = 0.9\n")
    (good,) = files(tmp_path, good="< 70")
    assert main(["trigger", "check", str(wrong), str(other), str(silence), good]) == 1
    lines = capsys.readouterr().out.splitlines()
    beginnings = [
        f"{scores}:2: demanded.recal: unknown key; did you mean recall?",
        f"{wrong}:9: sevrity: unknown key; did you mean severity?",
        f'{wrong}:2: severity: "urgent": must be one of info, warning, error, critical',
        f"{wrong}:6: when: column 6: lamp-intensity is not in the profile of chemistry-analyzer; did you mean",
        f"{wrong}:6: when: column 79: must be a duration, for example 30min, 6h or 7d",
        f"{wrong}:7: until: column 31: a number, a word or a condition is missing at the end",
        f"{wrong}:8: lasts: must be a number with the unit s, min, h or d",
        f"{wrong}:3: component: did you mean lamp?",
        f"{wrong}:5: parts[1]: Deuterium lamp is not a spare part of chemistry-analyzer; must be one of",
        f"{other}:9: sevrity: unknown key",
        f'{other}:2: severity: "urgent"',
        f"{other}:1: model: there is no profile of chemistry; did you mean",
        f"{other}:7: until: column 31: ",
        f"{other}:8: lasts: must be a number",
        f'{silence}:4: severity: "urgent": must be one of',
        f"{silence}:1: text: is missing",
        f"{silence}:2: model: is not possible with of = 'box'; remove it",
        f"{silence}:3: silence: must be a number with the unit",
        f"{good}: chemistry-analyzer, warning: valid",
    ]
    assert [line[: len(beginning)] for line, beginning in zip(lines, beginnings, strict=True)] == beginnings
