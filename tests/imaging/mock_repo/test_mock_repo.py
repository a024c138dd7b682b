"""`python -m imaging.mock_repo` never deletes other data, and reports wrong arguments and errors of apt."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.mock_repo import __main__ as command
from imaging.programs import ProgramFailed


def test_a_folder_with_other_content_is_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "repository-of-mine").mkdir()
    assert command.main([str(tmp_path)]) == 2
    assert "give a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["repository-of-mine"]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["one", "two"]])
def test_wrong_arguments_print_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert "DIR" in capsys.readouterr().err


def test_an_error_of_apt_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_folder: Path) -> Path:
        raise ProgramFailed("apt-get: no network")

    monkeypatch.setattr(command, "cached_repository", fail)
    monkeypatch.setattr(command, "require_prerequisites", lambda: None)
    assert command.main([str(tmp_path / "new")]) == 3
    assert capsys.readouterr().err == "imaging.mock_repo: apt-get: no network\n"
