"""`rap trigger test` prints scores, and exits with status 1 if they miss the demanded ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datacenter.evaluation.triggerset import read_triggers
from rap.__main__ import main

TRIGGER = """model = "blood-gas-analyzer"
severity = "warning"
component = "cartridge-slot"
text = "The slot heater will fail soon"
parts = ["Slot heater"]
when = "mean(slot-temp-mc, 2d) < 36994"
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (file := tmp_path / "slot-heater.toml").write_text(TRIGGER)
    return str(file)


def test_scores_are_printed_and_compared_with_the_demanded_ones(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [file, "--years", "0.02", "--seed", "4", "--cache", str(tmp_path / "cache"), "--processes", "1"]
    assert main(["trigger", "test", *options, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["triggers"].keys() == {"slot-heater"}
    assert 7 * 1440 < document["reports"] < 8 * 1440
    assert main(["trigger", "test", *options, "--recall", "1.01", "--write"]) == 1
    assert "missed: recall: " in capsys.readouterr().out
    assert read_triggers(tmp_path).triggers.keys() == {"slot-heater"}


def test_a_wrong_trigger_is_refused(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(file).write_text(TRIGGER.replace("slot-temp-mc", "slot-temp"))
    assert main(["trigger", "test", file]) == 2
    assert "slot-temp is not in the profile" in capsys.readouterr().err
