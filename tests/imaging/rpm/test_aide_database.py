"""AIDE's database belongs to the release that runs: after an update or a return, nothing is reported as changed."""

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
    """A box with a release, whose system is one folder; AIDE is the real one."""

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
        """Start a release from a slot."""
        (self._system / "program").write_text(release)
        self._packages.write_text(f"packages of {release}")
        (self._partitions / f"id-{slot}").write_bytes(release.encode() * 100)
        self._cmdline.write_text(
            f"root=PARTUUID=id-{slot} ro rap.slot={slot} quiet\n" if slot else "root=/dev/sda1\n"
        )
        places = {
            "FOLDER": self.folder,
            "CMDLINE": self._cmdline,
            "PARTITIONS": self._partitions,
            "PACKAGES": self._packages,
            "AIDE": self._aide,
            "ESP": self.esp,
        }
        environment = {**os.environ, **{name: str(path) for name, path in places.items()}}
        subprocess.run(["sh", SCRIPT], env=environment, check=True, capture_output=True)

    def check(self) -> int:
        return subprocess.run([self._aide, "--check"], capture_output=True, check=False).returncode

    def change(self) -> None:
        (self._system / "program").write_text("changed by somebody")

    @property
    def made(self) -> int:
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
    assert box.made == 1


def test_after_an_update_nothing_is_reported(box: Box) -> None:
    box.run("2", "b")
    assert box.check() == 0
    box.change()
    assert box.check() != 0


def test_after_a_return_the_database_of_the_release_before_is_used(box: Box) -> None:
    box.run("2", "b")
    box.run("1", "a")
    assert box.made == 2
    assert box.check() == 0


def test_only_the_databases_of_two_releases_are_kept(box: Box) -> None:
    for release, slot in (("2", "b"), ("3", "a"), ("4", "b")):
        box.run(release, slot)
    assert len(list(box.folder.glob("*.gz"))) == 2
    assert box.check() == 0


@pytest.mark.parametrize("lost", ["release", "aide.db.gz"])
def test_a_start_that_was_interrupted_is_completed(box: Box, lost: str) -> None:
    (box.folder / lost).unlink()
    box.run("2", "b")
    assert box.check() == 0


def test_without_slots_the_database_is_made_once(box: Box) -> None:
    box.run("2", "")
    made = box.made
    box.run("3", "")
    assert box.made == made
    assert box.check() != 0  # an administrator accepts what packages have changed


def test_an_esp_that_cannot_be_mounted_does_not_prevent_the_database(box: Box) -> None:
    box.esp.rmdir()
    box.run("2", "b")
    assert box.made == 2
    assert box.check() == 0
