"""`rap image release`: signing releases, and checking them as a box does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT
from tests.support.imaging.releases import key_file


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """The options for the keys that sign often."""
    targets, online = key_file(tmp_path, "targets"), key_file(tmp_path, "online")
    return ["--targets-key", str(targets), "--online-key", str(online)]


@pytest.fixture
def folder(tmp_path: Path, keys: list[str]) -> Path:
    """A folder with one release."""
    roots = [word for n in range(3) for word in ("--root-key", str(key_file(tmp_path, f"root{n}")))]
    folder = tmp_path / "releases"
    assert main(["image", "release", "create", str(folder), *roots, *keys]) == OK
    (tmp_path / "rap-1.4.0.img").write_bytes(b"image")
    file = str(tmp_path / "rap-1.4.0.img")
    assert main(["image", "release", "add", str(folder), file, "--version", "1.4.0", *keys]) == OK
    return folder


def check(folder: Path, *more: str) -> int:
    return main(
        ["image", "release", "check", str(folder), "--root", str(folder / "metadata/1.root.json"), *more]
    )


def test_a_release_is_accepted_until_it_is_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, "--json") == OK
    assert json.loads(capsys.readouterr().out) == {"rap-1.4.0.img": {"length": 5, "version": "1.4.0"}}
    (folder / "targets/rap-1.4.0.img").write_bytes(b"imagE")
    assert check(folder) == FAILED
    assert capsys.readouterr().out == "refused: rap-1.4.0.img: has another SHA-256 than the signed one\n"


def test_a_withdrawn_release_is_gone(
    folder: Path, keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "release", "withdraw", str(folder), "rap-1.4.0.img", *keys]) == OK
    assert main(["image", "release", "renew", str(folder), *keys[2:]]) == OK
    assert check(folder) == OK
    assert capsys.readouterr().out == ""


def test_a_release_is_never_replaced(
    folder: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (tmp_path / "rap-1.4.0.img").write_bytes(b"other")
    words = [
        "image",
        "release",
        "add",
        str(folder),
        str(tmp_path / "rap-1.4.0.img"),
        "--version",
        "1.4.0",
        *keys,
    ]
    assert main(words) == WRONG_INPUT
    assert "a release never changes, so give it a new name" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["withdraw", "FOLDER", "nothing"], "nothing is not released; released are: rap-1.4.0.img"),
        (["add", "FOLDER", "missing.img", "--version", "1"], "missing.img"),
        (
            ["add", "nowhere", "rap-1.4.0.img", "--version", "1"],
            "nowhere has no releases; begin with `rap image",
        ),
        (["create", "FOLDER", *("--root-key", "root0.pem") * 3], "exists already; add releases to it"),
        (
            ["create", "new", *("--root-key", "root0.pem") * 3],
            "1 different root keys; give 3, of which any 2 sign",
        ),
        (
            ["create", "new", *("--root-key", "rap-1.4.0.img") * 3],
            "is not an unencrypted private key of curve P-256",
        ),
    ],
)
def test_wrong_input_is_refused(
    folder: Path,
    keys: list[str],
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    assert (
        main(["image", "release", *(str(folder) if w == "FOLDER" else w for w in words), *keys])
        == WRONG_INPUT
    )
    assert message in capsys.readouterr().err
    assert check(folder) == OK


def test_releases_that_cannot_be_read_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "metadata/timestamp.json").unlink()
    assert check(folder) == WRONG_INPUT
    assert "timestamp.json: No such file or directory" in capsys.readouterr().err
