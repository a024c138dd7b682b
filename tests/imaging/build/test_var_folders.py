"""Each start creates missing folders of /var from the release's packages, and does not change existing ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imaging.build.var_folders import FILE, write_var_folders

PASSWD = "root:x:0:0::/root:/bin/sh\nsomeone:x:1234:1234::/:/bin/false\n"
GROUP = "root:x:0:\nsomeones:x:1234:\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The root file system of a release with new folders in /var."""
    root = tmp_path / "tree"
    for path in ("etc", "var/lib/probe/a b", "var/lib/owned", "var/lost+found", "usr/lib/tmpfiles.d"):
        (root / path).mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (root / "usr/lib/tmpfiles.d/owned.conf").write_text(
        "# d /var/lib/probe\nd /var/lib/owned/ 0711 root root -\n"
    )
    (root / "var/lib/probe").chmod(0o2750)
    (root / "var/lib/probe/file").write_text("data\n")
    (root / "var/run").symlink_to("../run")
    return root


def lines(root: Path) -> list[str]:
    """Return the lines of the written tmpfiles.d(5) configuration without comments."""
    write_var_folders(root)
    return [line for line in (root / FILE).read_text().splitlines() if not line.startswith("#")]


def test_each_folder_and_link_without_a_line_of_a_package_gets_one(tree: Path) -> None:
    expected = ["/var/lib", "/var/lib/probe", "'/var/lib/probe/a b'"]
    written = lines(tree)
    assert [line.partition(" :")[0] for line in written if line.startswith("d")] == [
        f"d {path}" for path in expected
    ]
    assert "L /var/run - - - - ../run" in written
    assert not any("owned" in line or "lost" in line or "file" in line for line in written)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: folders belong to other users")
def test_a_start_creates_missing_folders_and_changes_nothing_else(tree: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-tmpfiles"):
        pytest.skip("needs systemd-tmpfiles: make setup-image")
    os.chown(tree / "var/lib/probe", 1234, 1234)
    (tree / "var/lib/probe").chmod(0o2750)
    write_var_folders(tree)
    box = tmp_path / "box"
    shutil.copytree(tree, box, symlinks=True)
    shutil.rmtree(box / "var")
    (box / "var/lib").mkdir(parents=True)
    (box / "var/lib").chmod(0o700)
    subprocess.run(["systemd-tmpfiles", f"--root={box}", "--create", str(box / FILE)], check=True)
    created = (box / "var/lib/probe").stat()
    assert (created.st_mode & 0o7777, created.st_uid, created.st_gid) == (0o2750, 1234, 1234)
    assert (box / "var/lib/probe/a b").is_dir() and (box / "var/run").is_symlink()
    assert (box / "var/lib").stat().st_mode & 0o7777 == 0o700, "the box's own folder was changed"
    assert not (box / "var/lib/probe/file").exists()


def test_a_system_without_var_has_no_file(tmp_path: Path) -> None:
    write_var_folders(tmp_path)
    assert not (tmp_path / FILE).exists()
