"""The commit named in a report is that of the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sim.engine.commit import commit


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("one\n")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "one")
    return tmp_path


def test_a_commit_is_named_with_a_suffix_for_local_changes(checkout: Path) -> None:
    head = _git(checkout, "rev-parse", "--short=12", "HEAD")
    assert commit(checkout) == head
    (checkout / "file").write_text("two\n")
    assert commit(checkout) == f"{head}-dirty"


def test_an_untracked_folder_of_a_checkout_has_no_commit(checkout: Path) -> None:
    (checkout / "venv").mkdir()
    assert commit(checkout / "venv") is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit(checkout) is None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ("git", *arguments), cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()
