"""Silence triggers are read from the folder of triggers, and their errors name the correction."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.evaluation.triggerset import read_triggers
from datacenter.triggers.silencefile import read_silence
from settings.problems import SettingsError
from tests.support.datacenter.evaluation.scored_triggers import write_triggers

GOOD = 'of = "instrument"\nmodel = "chemistry-analyzer"\nsilence = "30min"\nseverity = "error"\ntext = "Silent"\n'


def test_a_folder_may_have_both_kinds(tmp_path: Path) -> None:
    lamp = 'model = "chemistry-analyzer"\nseverity = "warning"\ncomponent = "lamp"\ntext = "Weak"\n'
    write_triggers(tmp_path, lamp=f'{lamp}when = "lamp-intensity-pct < 70"\n')
    (tmp_path / "silent.toml").write_text(GOOD)
    triggers = read_triggers(tmp_path)
    assert list(triggers.triggers) == ["lamp"]
    silence = triggers.silence("chemistry-analyzer", "instrument")
    assert silence is not None and (silence.name, silence.lasts_ms) == ("silent", 1_800_000)
    assert triggers.silence("chemistry-analyzer", "box") is triggers.silence("other", "instrument") is None


def test_two_files_for_the_same_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(GOOD)
    with pytest.raises(SettingsError, match=r"b\.toml:1: of: is the same as in a\.toml"):
        read_triggers(tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ('"30min"', '"30m"', "silence: must be a number with the unit"),
        ("chemistry-analyzer", "chemistry-analyser", "model: there is no profile of chemistry-analyser"),
        ('"instrument"', '"box"', "model: is not possible with of = 'box'; remove it"),
        ('"instrument"', '"room"', "of: "),
    ],
)
def test_errors_are_named(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    file = tmp_path / "silent.toml"
    file.write_text(GOOD.replace(right, wrong))
    with pytest.raises(SettingsError) as error:
        read_silence(file)
    assert message in str(error.value)
