"""A trigger goes live only with a score of its current condition and parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.evaluation.triggerset import read_triggers
from datacenter.scoring.scorefile import SCORES, read_scores
from settings.problems import SettingsError
from tests.support.datacenter.evaluation.scored_triggers import score_triggers, write_triggers

LAMP = """model = "chemistry-analyzer"
severity = "warning"
component = "bath"
text = "Will fail"
parts = ["Heater"]
when = "lamp-h > 5"
"""


def test_scored_triggers_go_live(tmp_path: Path) -> None:
    write_triggers(tmp_path, lamp=LAMP, other=LAMP)
    assert read_triggers(tmp_path).triggers.keys() == {"lamp", "other"}


def test_a_trigger_without_a_score_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    write_triggers(tmp_path, lamp=LAMP)
    (tmp_path / "new.toml").write_text(LAMP)
    with pytest.raises(
        SettingsError, match=r"triggers\.new: is missing.* `rap trigger test .*new\.toml --write`"
    ):
        read_triggers(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        ("lamp-h > 5", "lamp-h > 6"),
        ("lamp-h > 5", 'lamp-h > 5"\nlasts = "1h'),
        ("lamp-h > 5", 'lamp-h > 5"\nuntil = "lamp-h < 3'),
        ('["Heater"]', '["Thermostat"]'),
        ('"bath"', '"lamp"'),
    ],
)
def test_the_score_of_an_earlier_decision_is_void(tmp_path: Path, change: tuple[str, str]) -> None:
    write_triggers(tmp_path, lamp=LAMP)
    changed = LAMP.replace(*change)
    if '"lamp"' in change:
        changed = changed.replace('["Heater"]', '["Halogen lamp"]')
    (tmp_path / "lamp.toml").write_text(changed)
    with pytest.raises(SettingsError, match=r"triggers\.lamp: is the score of an earlier text"):
        read_triggers(tmp_path)


def test_texts_may_change(tmp_path: Path) -> None:
    write_triggers(tmp_path, lamp=LAMP)
    (tmp_path / "lamp.toml").write_text(LAMP.replace("Will fail", "Fails soon").replace("warning", "error"))
    assert read_triggers(tmp_path).triggers["lamp"].table.text == "Fails soon"


def test_writing_keeps_demands_forgets_removed_triggers_and_is_repeatable(tmp_path: Path) -> None:
    write_triggers(tmp_path, lamp=LAMP, old=LAMP)
    text = (tmp_path / SCORES).read_text()
    (tmp_path / SCORES).write_text("[demanded]\nrecall = 0.9\n\n" + text.partition("\n")[2])
    (tmp_path / "old.toml").unlink()
    score_triggers(tmp_path)
    first = (tmp_path / SCORES).read_bytes()
    score_triggers(tmp_path)
    assert (tmp_path / SCORES).read_bytes() == first
    assert read_scores(tmp_path).triggers.keys() == {"lamp"}
    assert read_scores(tmp_path).demanded.recall == 0.9


def test_scoring_some_triggers_keeps_the_figures_of_the_set_unless_a_trigger_has_changed(
    tmp_path: Path,
) -> None:
    write_triggers(tmp_path, lamp=LAMP, other=LAMP)
    set_score = read_scores(tmp_path).set
    assert set_score is not None
    score_triggers(tmp_path, "lamp")
    assert read_scores(tmp_path).set == set_score
    (tmp_path / "lamp.toml").write_text(LAMP.replace("lamp-h > 5", "lamp-h > 6"))
    score_triggers(tmp_path, "lamp")
    assert read_scores(tmp_path).set is None
    assert read_scores(tmp_path).triggers.keys() == {"lamp", "other"}
