"""The commit in a report is the checkout's own, or none."""

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


def test_what_is_checked_out_is_named_and_whether_it_was_changed(checkout: Path) -> None:
    head = _git(checkout, "rev-parse", "--short=12", "HEAD")
    assert commit(checkout) == head
    (checkout / "file").write_text("two\n")
    assert commit(checkout) == f"{head}-dirty"


def test_a_folder_in_somebody_elses_checkout_has_none(checkout: Path) -> None:
    (checkout / "venv").mkdir()
    assert commit(checkout / "venv") is None


def test_without_git_there_is_none(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit(checkout) is None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ("git", *words), cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()
