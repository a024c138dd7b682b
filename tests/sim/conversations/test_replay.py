"""Recorded conversations are played against the box's intake, and their results are checked."""

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
from tests.support.sim.conversations.recorded import CASES, INDEX


@pytest.mark.parametrize("split", ["whole", "bytes"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_recorded_conversation_has_the_expected_result(case: Conversation, split: str) -> None:
    assert run_case(case, split).problems == []


AT_EVERY_POINT = [case for case in CASES if case.standard in ("astm-tcp", "astm-serial", "au-serial")]
"""Other standards are split at every point in the tests of their engines, without the intake."""


@pytest.mark.parametrize("case", AT_EVERY_POINT, ids=lambda case: case.name)
def test_each_conversation_of_frames_has_the_expected_result_at_every_split_point(case: Conversation) -> None:
    assert run_case(case, "every-point").problems == []


def test_a_live_connection_may_be_silent_for_hours() -> None:
    silence = ["wait 21600s"]
    for case in CASES:
        sends = [index for index, step in enumerate(case.script) if step.startswith("send")]
        if case.standard == "hl7-mllp" and len(sends) > 1:
            script = [*silence, *case.script[: sends[1]], *silence, *case.script[sends[1] :]]
            played = play(replace(case, script=script), case.file.read_bytes())
            assert not [problem for problem in played.problems if "acknowledgement" in problem]


def problems_after_change(
    tmp_path: Path, right: str, wrong: str, data: tuple[bytes, bytes] = (b"", b"")
) -> list[str]:
    """Return the problems of the status case after a change of its entry in the index, or of its bytes."""
    case = next(case for case in CASES if case.name == "hl7-status-with-offset")
    text = "[[case]]" + INDEX.read_text("utf-8").partition(case.name)[0].rpartition("[[case]]")[2]
    text += case.name + INDEX.read_text("utf-8").partition(case.name)[2].partition("[[case]]")[0]
    assert right in text
    (tmp_path / "index.toml").write_text(text.replace(right, wrong))
    (tmp_path / case.file.name).write_bytes(case.file.read_bytes().replace(*data))
    (read,) = read_conversations(tmp_path / "index.toml")
    return run_case(read, "whole").problems


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
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
def test_a_wrong_expectation_is_detected(tmp_path: Path, right: str, wrong: str, problem: str) -> None:
    assert problem in "\n".join(problems_after_change(tmp_path, right, wrong))


@pytest.mark.parametrize(
    ("name", "right", "wrong", "problem"),
    [
        ("hl7-repeated-after-power-cut", "box disk full", "box disk writable", "'AE', 'S1', 'U01') expected"),
        ("hl7-repeated-after-power-cut", "box power-cut", "box restart", ""),
        (
            "hl7-command-inventory",
            "command INR U06",
            "command LSR U13",
            "command LSR^U13 expected, got INR^U06",
        ),
        ("hl7-command-inventory", "box command 7 send", "box command 8 send", "command = 7 expected, got 8"),
        ("hl7-command-power-cut", "box power-cut", "wait 1s", "silence expected"),
        ("poct1a-basic-conversation", "REQ.R01 RDEV", "REQ.R01 ROBS", "REQ.R01 ROBS expected, got RDEV"),
        ("poct1a-basic-conversation", "document END.R01 NRM", "silence", "silence expected"),
        ("poct1a-continuous-mode", "DTV.R01 START_CONTINUOUS", "END.R01 NRM", "END.R01 NRM expected"),
    ],
)
def test_steps_of_the_box_and_its_messages_are_checked(
    name: str, right: str, wrong: str, problem: str
) -> None:
    (case,) = (case for case in CASES if case.name == name)
    assert any(right in step for step in case.script)
    script = [step.replace(right, wrong) for step in case.script]
    problems = play(replace(case, script=script), case.file.read_bytes()).problems
    assert problem in "\n".join(problems)
    assert bool(problems) == bool(problem)


def test_a_step_cuts_the_power_at_a_disk_operation() -> None:
    (case,) = (case for case in CASES if case.name == "hl7-repeated-after-power-cut")
    send, answer = case.script[-2:]
    script = ["box power-cut 1", send, "silence", "box start", send, answer]
    played = play(replace(case, script=script, audit=[]), case.file.read_bytes())
    assert played.problems == []


def test_patient_data_in_an_answer_is_detected(tmp_path: Path) -> None:
    at = (INDEX.parent / "hl7-status-with-offset.bin").read_bytes().index(b"4711")
    problems = problems_after_change(
        tmp_path, "patient_data = []", f'patient_data = [[{at}, {at + 4}, "name"]]', (b"4711", b"Ruth")
    )
    assert any("data of a person, left the box" in problem for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        *("send 1", "send a b", "reply 6", "reply", "ack AA", "wait", "wait 3", "jump", "box", "box jump"),
        *(
            "box power-cut 0",
            "box disk",
            "box disk slow",
            "box command 7",
            "box command 7 help",
            "command INR",
        ),
        *("document", "box restart now", "box start 3"),
    ],
)
def test_an_unknown_step_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a step"):
        parse_step(text)


def test_an_index_with_mistakes_is_refused(tmp_path: Path) -> None:
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
    problems_after_change(tmp_path, 'state = "running"', 'state = "idle"')
    assert main(["profile", "replay", str(tmp_path / "index.toml"), "--json"]) == FAILED
