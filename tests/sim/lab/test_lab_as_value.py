"""A lab can be written as a lab file, or packed into one command-line argument, and read again unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from rap.__main__ import main
from settings.problems import SettingsError
from sim.lab.labfile import lab_paths, load_lab, parse_lab
from tests.support.paths import LABS


@pytest.mark.parametrize("path", [*lab_paths(LABS), *lab_paths(LABS / "minutes")], ids=lambda path: path.stem)
def test_a_lab_is_unchanged_after_it_was_written_and_read(path: Path) -> None:
    lab = load_lab(path)
    again = parse_lab(lab.toml(), path)
    assert msgspec.structs.asdict(again) == msgspec.structs.asdict(lab)
    assert again.toml() == lab.toml()


def test_a_failed_run_is_replayed_without_its_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.toml"
    text = (LABS / "06-too-small-a-spool.toml").read_text().replace("meant_to_fail = true", "")
    for key, long, short in (("at", "5min", "1min"), ("duration", "140min", "5min"), ("lasts", "2h", "1min")):
        assert f'{key} = "{long}"' in text
        text = text.replace(f'{key} = "{long}"', f'{key} = "{short}"')
    path.write_text(text + 'latency_p99 = "1ms"\n')
    assert main(["lab", "run", str(path), "--json"]) == 1
    first = json.loads(capfd.readouterr().out)
    path.unlink()
    assert main([*first["replay"].split()[1:], "--json"]) == 1
    again = json.loads(capfd.readouterr().out)
    assert again["trace_sha256"] == first["trace_sha256"]
    assert again["replay"] == first["replay"]


@pytest.mark.parametrize("argument", ["lab:", "lab:eJw", "lab:AAAA", "lab:é"])
def test_an_argument_that_is_not_a_packed_lab_is_refused(argument: str) -> None:
    with pytest.raises(SettingsError, match="packed lab"):
        load_lab(Path(argument))


def test_a_packed_lab_that_was_cut_short_anywhere_is_refused() -> None:
    packed = load_lab(LABS / "01-clinic-128k.toml").packed()
    assert load_lab(Path(packed)).name == "clinic-128k"
    for length in range(len("lab:"), len(packed.rstrip("="))):
        with pytest.raises(SettingsError, match="packed lab"):
            load_lab(Path(packed[:length]))
