"""`rap dc papers`: staff with permission can file, compare and save papers and evidence; wrong files are refused."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from rap.__main__ import main
from tests.support.datacenter.papers import evidence_file, papers_zip
from tests.support.datacenter.placed import BOX, ENGINEER, placed_instrument

STAFF = f"""{ENGINEER}[staff.viewer]
roles = ["viewer"]
scope = ["everywhere"]
"""


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    file, store = placed_instrument(tmp_path, STAFF)
    store.close()
    (tmp_path / "papers.zip").write_bytes(papers_zip())
    (tmp_path / "evidence.json").write_bytes(evidence_file())
    (tmp_path / "changed.json").write_bytes(evidence_file(with_passwords=True))
    return ["--config", str(file), "--as", "engineer"]


def test_papers_are_filed_compared_and_saved(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dc", "papers", "show", BOX, *options]) == 0
    assert capsys.readouterr().out.startswith("no papers\nno evidence of the box")
    assert main(["dc", "papers", "file", BOX, str(tmp_path / "papers.zip"), *options]) == 0
    assert "mds2.pdf" in capsys.readouterr().out
    assert main(["dc", "papers", "file", BOX, str(tmp_path / "evidence.json"), *options]) == 0
    assert "facts agree; 0 differ" in capsys.readouterr().out
    assert main(["dc", "papers", "file", BOX, str(tmp_path / "changed.json"), *options]) == 1
    assert "DIFFERS  ssh.password-login" in capsys.readouterr().out
    assert main(["dc", "papers", "show", BOX, "--json", *options]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["agrees"] is False and shown["deviations"][0]["fact"] == "ssh.password-login"
    folder = tmp_path / "filed"
    assert main(["dc", "papers", "save", BOX, "-o", str(folder), *options]) == 0
    with zipfile.ZipFile(BytesIO(papers_zip())) as archive:
        assert {path.name for path in folder.iterdir()} == {*archive.namelist(), "evidence.json"}
        assert all((folder / name).read_bytes() == archive.read(name) for name in archive.namelist())
    assert main(["dc", "papers", "save", BOX, "-o", str(folder), *options]) == 2
    assert "give a new folder" in capsys.readouterr().err


def test_wrong_files_and_staff_without_permission_are_refused(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    papers, other = str(tmp_path / "papers.zip"), tmp_path / "other.json"
    other.write_text("{}")
    for arguments, text in (
        (["file", BOX, str(other)], "send papers.zip of a folder of `rap trust papers`"),
        (["file", BOX, str(tmp_path / "none.zip")], "No such file"),
        (["file", "RAP-9999", papers], "there is no box RAP-9999"),
        (["save", BOX, "-o", str(tmp_path / "filed")], "has no papers"),
    ):
        assert main(["dc", "papers", *arguments, *options]) == 2
        assert text in capsys.readouterr().err
    viewer = [*options[:2], "--as", "viewer"]
    assert main(["dc", "papers", "file", BOX, papers, *viewer]) == 2
    assert "no policy permits viewer to file papers" in capsys.readouterr().err
    assert main(["dc", "papers", "show", BOX, *viewer]) == 0
    assert capsys.readouterr().out.startswith("no papers")
    assert not (tmp_path / "filed").exists()
