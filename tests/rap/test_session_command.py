"""`rap session`: its output and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rap.__main__ import main
from tests.support.wire.grants import BOX, DATACENTER
from tests.support.wire.session_audits import Audits
from wire.session.table import TABLE


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """The arguments of `rap session verify` for the files of one session."""
    for name, content in Audits().add().files().items():
        (tmp_path / f"{name}.audit").write_bytes(content)
    keys: dict[str, EllipticCurvePrivateKey] = {"dc": DATACENTER, "box": BOX}
    for name, key in keys.items():
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(public)
    files = [str(tmp_path / name) for name in ("dc.audit", "box.audit", "dc.pub", "box.pub")]
    return ["session", "verify", files[0], files[1], "--datacenter-key", files[2], "--box-key", files[3]]


def test_a_proven_session_has_status_0(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        "000102030405060708090a0b0c0d0e0f: m.curie, instrument CH-4711: 600.0 s of tunnel, ended by the person",
        "1 sessions, 600.0 s of tunnel: every second had a valid grant",
    ]


def test_a_manipulation_is_reported_with_status_1(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(arguments[3])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "box: record 2 is missing" in printed
    assert "NOT proven" in printed
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["proven"] is False


@pytest.mark.parametrize(
    ("position", "problem"), [(3, "is not the first line of an audit file"), (7, "is not a public key")]
)
def test_wrong_files_have_status_2(
    arguments: list[str], position: int, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(arguments[position]).write_text("nothing\n")
    assert main(arguments) == 2
    assert problem in capsys.readouterr().err


def test_files_with_exchanged_keys_are_not_proven(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments[5], arguments[7] = arguments[7], arguments[5]
    assert main(arguments) == 1
    assert "which is not trusted" in capsys.readouterr().out


def test_the_table_is_printed_for_readers_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["session", "table"]) == 0
    assert "authorize at the box → authorized (person)" in capsys.readouterr().out
    assert main(["session", "table", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(TABLE)


def test_a_violation_found_without_a_guard_gives_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["session", "explore", "--without", "offer_signed", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[-1]["trace"] == [
        "session 1 at the box: forged offer received → offered"
    ]


def test_an_unknown_guard_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["session", "explore", "--without", "luck"]) == 2
    assert "luck is not a guard; use one of audit_written," in capsys.readouterr().err
