"""Data releases are checked as boxes check them; a file that an earlier release contains is stored only once."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from rap.__main__ import main
from rap.outcome import OK, WRONG_INPUT
from settings.profile import DIRECTORY, load_profile
from tests.support.imaging.releases import released
from wire.release.data import DATA_FILES_MAX, DataError, parse_manifest, read_content, render_manifest

MODEL = "chemistry-analyzer"
PROFILE = (DIRECTORY / f"{MODEL}.toml").read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a profile, settings and a help file."""
    folder = tmp_path / "files"
    for path, content in (
        (f"profiles/{MODEL}.toml", PROFILE),
        ("settings/sending.toml", b"heartbeat_s = 60\n"),
        ("help/errors-en.txt", b"help"),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def add(tmp_path: Path, files: Path, *options: str) -> int:
    keys = ["--targets-key", str(tmp_path / "targets.pem"), "--online-key", str(tmp_path / "online.pem")]
    return main(["image", "release", "add-data", str(tmp_path / "releases"), str(files), *options, *keys])


def test_files_are_released_and_a_second_release_adds_only_changed_files(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, _ = released(tmp_path, ())
    assert add(tmp_path, files, "--release", "profiles-1", "--number", "5", "--floor", "4") == OK
    assert len(capsys.readouterr().out.splitlines()) == 4
    (files / "help/errors-en.txt").write_bytes(b"better help")
    assert add(tmp_path, files, "--release", "profiles-2", "--number", "6") == OK
    assert capsys.readouterr().out.splitlines()[1] == (
        f"data/files/{sha256(b'better help').hexdigest()}  11 bytes"
    )
    root = str(tmp_path / "releases/metadata/1.root.json")
    assert main(["image", "release", "check", str(tmp_path / "releases"), "--root", root, "--json"]) == OK
    listed = json.loads(capsys.readouterr().out)
    about = listed["data/profiles-1"]
    assert (about["kind"], about["number"], about["floor"], about["bytes"]) == (
        "data",
        5,
        4,
        len(PROFILE) + 21,
    )
    manifest = parse_manifest((repository.targets / "data/profiles-2").read_bytes())
    assert [file.path for file in manifest.files] == [
        "help/errors-en.txt",
        f"profiles/{MODEL}.toml",
        "settings/sending.toml",
    ]
    content = read_content(
        (file.path, (repository.targets / f"data/files/{file.sha256}").read_bytes())
        for file in manifest.files
    )
    assert content.profiles == {MODEL: load_profile(MODEL)} and content.sending.heartbeat_s == 60


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        (
            f"profiles/{MODEL}.toml",
            PROFILE.replace(b'"critical"', b'"fatal"'),
            "must be one of info, warning",
        ),
        ("profiles/other.toml", PROFILE, "the file must be named chemistry-analyzer.toml"),
        ("settings/sending.toml", b"heartbeat_s = 0", "heartbeat_s"),
        (
            "settings/other.toml",
            b"a = 1",
            "a release may have profiles/<model>.toml, settings/sending.toml, help/<model>/<name> and",
        ),
        ("help/empty.txt", b"", "files[0].bytes"),
        ("help/in/folder.txt", b"a", "help/in/folder.txt: there is no model in"),
        ("help/in/a/folder.txt", b"a", "files[1].path"),
    ],
)
def test_files_that_boxes_would_refuse_are_not_released(
    files: Path, tmp_path: Path, path: str, content: bytes, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, _ = released(tmp_path, ())
    (files / path).parent.mkdir(parents=True, exist_ok=True)
    (files / path).write_bytes(content)
    before = repository.released()
    assert add(tmp_path, files, "--release", "profiles-1", "--number", "5") == WRONG_INPUT
    assert problem in capsys.readouterr().err
    assert repository.released() == before and not list(repository.targets.rglob("*.*"))


def test_an_empty_folder_is_no_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released(tmp_path, ())
    (tmp_path / "empty").mkdir()
    assert add(tmp_path, tmp_path / "empty", "--release", "a", "--number", "5") == WRONG_INPUT
    assert "has no files; a release may have" in capsys.readouterr().err


def test_a_manifest_has_limits() -> None:
    with pytest.raises(DataError, match="of length <= 256"):
        render_manifest({f"help/{number}": b"a" for number in range(DATA_FILES_MAX + 1)})
    with pytest.raises(DataError, match="at most 16777216 are accepted"):
        render_manifest({f"help/{number}": bytes(9 * 1024 * 1024) for number in range(2)})
    manifest = render_manifest({"help/a": b"a"})
    with pytest.raises(DataError, match="lists a file twice"):
        parse_manifest(manifest.replace(b"[{", b"[%s,{" % manifest[manifest.index(b"[") + 1 : -2]))
    with pytest.raises(DataError, match="cannot be read"):
        parse_manifest(manifest[:-1])
