"""Recorded conversations are played against the intake, and judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT
from settings.problems import SettingsError
from sim.conversations.casefile import Conversation, parse_step, read_conversations
from sim.conversations.player import play
from sim.conversations.suite import run_case
from tests.support.paths import FIXTURES

INDEX = FIXTURES / "instruments/index.toml"
CASES = read_conversations(INDEX)


@pytest.mark.parametrize("split", ["whole", "bytes"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_recorded_conversation_is_right(case: Conversation, split: str) -> None:
    assert run_case(case, split).problems == []


def test_a_live_connection_may_be_silent_for_hours() -> None:
    silence = ["wait 21600s"]
    for case in CASES:
        sends = [place for place, step in enumerate(case.script) if step.startswith("send")]
        if case.standard == "hl7-mllp" and len(sends) > 1:
            script = [*silence, *case.script[: sends[1]], *silence, *case.script[sends[1] :]]
            played = play(replace(case, script=script), case.file.read_bytes())
            assert not [problem for problem in played.problems if "acknowledgement" in problem]


def spoiled(tmp_path: Path, right: str, wrong: str, data: tuple[bytes, bytes] = (b"", b"")) -> list[str]:
    """The problems of the status case after a change of its index, or of its bytes."""
    case = next(case for case in CASES if case.name == "hl7-status-with-offset")
    text = "[[case]]" + INDEX.read_text("utf-8").partition(case.name)[0].rpartition("[[case]]")[2]
    text += case.name + INDEX.read_text("utf-8").partition(case.name)[2].partition("[[case]]")[0]
    assert right in text
    (tmp_path / "index.toml").write_text(text.replace(right, wrong))
    (tmp_path / case.file.name).write_bytes(case.file.read_bytes().replace(*data))
    (read,) = read_conversations(tmp_path / "index.toml")
    return run_case(read, "whole").problems


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('state = "running"', 'state = "idle"', "report 1: state = 'idle' expected, got 'running'"),
        ("2031-03-04T08:30:10Z", "2031-03-04T08:30:11Z", "report 1: at ="),
        ("ack AA 4711 U01", "ack AR 4711 U01", "acknowledgement ('AR', '4711', 'U01') expected"),
        ("ack AA 4711 U01", "ack AA 4712 U01", "acknowledgement ('AA', '4712', 'U01') expected"),
        ("ack AA 4711 U01", "silence", "silence expected"),
        (
            "audit = []",
            'audit = [{ event = "test-unknown", count = 1 }]',
            "counts {'test-unknown': 1} expected",
        ),
        ('"critical", at', '"warning", at', "severity"),
    ],
)
def test_a_wrong_expectation_is_noticed(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    assert told in "\n".join(spoiled(tmp_path, right, wrong))


def test_patient_data_in_an_answer_is_noticed(tmp_path: Path) -> None:
    at = (INDEX.parent / "hl7-status-with-offset.bin").read_bytes().index(b"4711")
    problems = spoiled(
        tmp_path, "patient_data = []", f'patient_data = [[{at}, {at + 4}, "name"]]', (b"4711", b"Ruth")
    )
    assert any("data of a person, left the box" in problem for problem in problems)


@pytest.mark.parametrize(
    "text", ["send 1", "send a b", "reply 6", "reply", "ack AA", "wait", "wait 3", "jump"]
)
def test_a_step_that_is_not_understood_is_explained(text: str) -> None:
    with pytest.raises(ValueError, match="is not a step"):
        parse_step(text)


def test_an_index_with_mistakes_is_explained(tmp_path: Path) -> None:
    text = INDEX.read_text("utf-8").replace('"send 0 214"', '"send 0 99999"').replace("au-serial", "fax")
    (tmp_path / "index.toml").write_text(text)
    for file in INDEX.parent.glob("*.bin"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SettingsError) as caught:
        read_conversations(tmp_path / "index.toml")
    assert "must be one of astm-tcp" in str(caught.value)


def test_the_command_plays_one_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "replay", str(INDEX), "--name", "hl7-law-control"]) == OK
    assert capsys.readouterr().out == "pass  hl7-law-control, 1 played\n"


def test_an_unknown_case_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "replay", str(INDEX), "--name", "hl7-law"]) == WRONG_INPUT
    assert "hl7-law-control" in capsys.readouterr().err


def test_a_failed_case_fails_the_command(tmp_path: Path) -> None:
    spoiled(tmp_path, 'state = "running"', 'state = "idle"')
    assert main(["profile", "replay", str(tmp_path / "index.toml"), "--json"]) == FAILED
