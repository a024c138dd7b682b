"""The command line: parsing, exit statuses, and messages with corrections."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rap.__main__ import main, make_parser
from rap.outcome import BUG, OK, WRONG_INPUT, WrongInput

LAB = """\
[lab]
name = "small"
description = "One analyzer."
duration = "1h"

[box]
board = "rap-4"

[uplink]
rate = "1mbit"

[[instrument]]
port = 1
model = "chemistry-analyzer"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(LAB)
    return path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lbb run x", "did you mean `rap lab`?"),
        ("lab rnu x", "did you mean `rap lab run`?"),
        ("lab", "`rap lab` needs a command: one of list, check, run"),
        ("", "`rap` needs a command"),
        ("lab run", "the following arguments are required: FILE"),
        ("lab run x.toml --sed 3", "unrecognized arguments: --sed 3"),
        ("lab run x.toml --seed -3", "--seed"),
        ("lab run x.toml --seed three", "give a whole number"),
        ("lab run x.toml --world vitrual", "invalid choice: 'vitrual'"),
        ("lab run nothing.toml", "nothing.toml: cannot be read: No such file"),
        ("lab list nowhere", "nowhere: contains no lab file"),
        ("dc serve --config nothing.toml", "nothing.toml: cannot be read: No such file"),
        ("pki issue nowhere RAP-0001 --for box", "create the authorities first, with `rap pki init nowhere`"),
        ("pki issue nowhere rap1 --for box", 'a name has capital letters, digits and "-"'),
    ],
)
def test_wrong_input_is_reported_on_standard_error_with_exit_status_2(
    line: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == WRONG_INPUT
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_check_prints_a_summary_of_the_lab(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "check", str(lab)]) == OK
    assert "OK (small: 1h on a rap-4, instruments: 1, events: 0)" in capsys.readouterr().out


def test_json_is_one_document_and_nothing_else(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "check", str(lab), "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["lab"] == "small"
    assert main(["lab", "list", str(lab.parent), "--json"]) == OK
    assert [summary["instruments"] for summary in json.loads(capsys.readouterr().out)] == [1]


def test_list_shows_file_and_description(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "list", str(lab.parent)]) == OK
    assert capsys.readouterr().out == f"{lab}  One analyzer.\n"


def test_all_problems_of_a_wrong_lab_file_are_reported(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab.write_text(LAB.replace("1mbit", "fast").replace("port = 1", "port = 5"))
    assert main(["lab", "run", str(lab)]) == WRONG_INPUT
    error = capsys.readouterr().err
    assert f"rap: {lab}:10: uplink.rate" in error and f"{lab}:13: instrument[0].port" in error


def test_an_internal_error_has_its_own_exit_status(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sim.lab.labfile.load_lab", broken)
    assert main(["lab", "check", str(lab)]) == BUG
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_pki_creates_a_hierarchy_and_never_overwrites_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pki"
    assert main(["pki", "init", str(folder)]) == OK
    for name, purpose in (("RAP-0001", "box"), ("CHEM-0001", "instrument"), ("DC", "datacenter")):
        assert (
            main(["pki", "issue", str(folder), name, "--for", purpose, "--host", f"{name.lower()}.test"])
            == OK
        )
    keys = {path.name: path.read_bytes() for path in folder.glob("*.key")}
    assert len(keys) == 7
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.key"))
    capsys.readouterr()
    assert main(["pki", "issue", str(folder), "RAP-0001", "--for", "box"]) == WRONG_INPUT
    assert "is not overwritten" in capsys.readouterr().err
    assert main(["pki", "init", str(folder)]) == WRONG_INPUT
    assert {path.name: path.read_bytes() for path in folder.glob("*.key")} == keys


def test_help_imports_no_heavy_module() -> None:
    program = (
        "import sys; from rap.__main__ import make_parser; make_parser().format_help(); print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    heavy = {"msgspec", "simpy", "asyncio", "cryptography", "sqlalchemy", "rich", "plotly", "sim", "agents"}
    assert not heavy & set(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "lab"),
    [
        ("down ward", "ward"),
        ("down --lab ward", "ward"),
        ("down --all", None),
        ("watch ward --json", "ward"),
        ("watch --lab ward", "ward"),
        ("watch", None),
        ("shell --lab ward box", "ward"),
        ("link --lab ward uplink down", "ward"),
    ],
)
def test_every_verb_of_a_running_lab_takes_its_name_in_the_same_form(arguments: str, lab: str | None) -> None:
    assert make_parser().parse_args(["lab", *arguments.split()]).lab == lab


def test_the_name_of_a_lab_is_given_once() -> None:
    with pytest.raises(WrongInput, match="not allowed with argument NAME"):
        make_parser().parse_args(["lab", "down", "ward", "--lab", "lab"])
