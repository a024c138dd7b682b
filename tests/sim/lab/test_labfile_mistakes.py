"""Mistakes in a lab file: all are reported at once, each with its line, also contradictions beside errors of form."""

from __future__ import annotations

from pathlib import Path

import pytest

from rap.__main__ import main
from settings.problems import SettingsError
from sim.lab.labfile import parse_lab

LAB = """\
[lab]
name = "wrong"
duration = "1h"
[box]
board = "rap-4"
[uplink]
rate = "fast"
[[instrument]]
port = 9
model = "chemistry-analyser"
[[instrument]]
port = "2"
model = "hematology-analyser"
[[event]]
fault = "link-up"
target = "uplink"
at = "1min"
[[event]]
fault = "link-down"
target = "uplink"
at = "2h"
lasts = "1min"
"""


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_lab(LAB, Path("wrong.toml"))
    found = [(problem.line, problem.key) for problem in caught.value.problems]
    assert found[:3] == [(7, "uplink.rate"), (12, "instrument[1].port"), (15, "event[0].fault")]
    assert set(found[3:]) == {
        (9, "instrument[0].port"),
        (10, "instrument[0].model"),
        (13, "instrument[1].model"),
        (21, "event[1].at"),
    }


def test_the_mistakes_of_all_labs_of_a_folder_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(LAB)
    assert main(["lab", "list", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert all(f"{tmp_path / name}.toml:7: uplink.rate: " in printed for name in ("one", "two"))
