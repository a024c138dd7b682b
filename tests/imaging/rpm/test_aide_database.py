"""AIDE's database matches the running release: after an update or a rollback, AIDE reports no changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE

SCRIPT = RECIPE / "root/usr/libexec/rap/aide-database"
CONFIG = """\
@@define DBDIR {folder}
database_in=file:@@{{DBDIR}}/aide.db.gz
database_out=file:@@{{DBDIR}}/aide.db.new.gz
gzip_dbout=yes
report_url=stdout
{system} p+sha512
"""


class Box:
    """A box whose system is one folder with a release, checked by the real AIDE."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._system = folder / "aide", folder / "system"
        self._cmdline, self._packages, self._partitions, self.esp = (
            folder / name for name in ("cmdline", "rpmdb", "parts", "esp")
        )
        for path in (self.folder, self._system, self._partitions, self.esp):
            path.mkdir()
        config = folder / "aide.conf"
        config.write_text(CONFIG.format(folder=self.folder, system=self._system))
        self._aide = folder / "aide-program"
        self._aide.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\nexec aide --config={config} "$@"\n')
        self._aide.chmod(0o755)
        self._calls = folder / "calls"
        self.run("1", "a")

    def run(self, release: str, slot: str) -> None:
        """Let a release start from a slot, or from a machine without slots, and run the script."""
        (self._system / "program").write_text(release)
        self._packages.write_text(f"packages of {release}")
        (self._partitions / f"id-{slot}").write_bytes(release.encode() * 100)
        self._cmdline.write_text(
            f"root=PARTUUID=id-{slot} ro rap.slot={slot} quiet\n" if slot else "root=/dev/sda1\n"
        )
        paths = {
            "FOLDER": self.folder,
            "CMDLINE": self._cmdline,
            "PARTITIONS": self._partitions,
            "PACKAGES": self._packages,
            "AIDE": self._aide,
            "ESP": self.esp,
        }
        environment = {**os.environ, **{name: str(path) for name, path in paths.items()}}
        subprocess.run(["sh", SCRIPT], env=environment, check=True, capture_output=True)

    def check(self) -> int:
        """Return the exit status of `aide --check`: 0 without changes."""
        return subprocess.run([self._aide, "--check"], capture_output=True, check=False).returncode

    def change(self) -> None:
        (self._system / "program").write_text("changed by somebody")

    @property
    def inits(self) -> int:
        """How many databases AIDE has created."""
        return self._calls.read_text().split().count("--init")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    if not shutil.which("aide"):
        pytest.skip("needs aide: make setup-image")
    return Box(tmp_path)


def test_a_changed_file_is_found_and_the_next_start_does_not_hide_it(box: Box) -> None:
    assert box.check() == 0
    box.run("1", "a")
    box.change()
    assert box.check() != 0
    assert box.inits == 1


def test_after_an_update_nothing_is_reported(box: Box) -> None:
    box.run("2", "b")
    assert box.check() == 0
    box.change()
    assert box.check() != 0


def test_after_a_rollback_the_former_release_has_its_database_again(box: Box) -> None:
    box.run("2", "b")
    box.run("1", "a")
    assert box.inits == 2
    assert box.check() == 0


def test_only_the_databases_of_two_releases_are_kept(box: Box) -> None:
    for release, slot in (("2", "b"), ("3", "a"), ("4", "b")):
        box.run(release, slot)
    assert len(list(box.folder.glob("*.gz"))) == 2
    assert box.check() == 0


@pytest.mark.parametrize("lost", ["release", "aide.db.gz"])
def test_an_interrupted_creation_of_the_database_is_repeated(box: Box, lost: str) -> None:
    (box.folder / lost).unlink()
    box.run("2", "b")
    assert box.check() == 0


def test_without_slots_the_database_is_created_only_once(box: Box) -> None:
    box.run("2", "")
    inits = box.inits
    box.run("3", "")
    assert box.inits == inits
    assert box.check() != 0  # an administrator must accept the changes of packages


def test_an_esp_that_cannot_be_mounted_does_not_prevent_the_database(box: Box) -> None:
    box.esp.rmdir()
    box.run("2", "b")
    assert box.inits == 2
    assert box.check() == 0
