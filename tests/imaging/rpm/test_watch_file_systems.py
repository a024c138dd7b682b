"""The box restarts when an ext4 became read-only because of an error, unless a restart would not help."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE
from tests.support.imaging.flash.images import MIB, loop_device

WATCH = RECIPE / "root/usr/libexec/rap/watch-file-systems"
SPOOL = "/var/lib/rap"
DEVICE = "/dev/sda9"


class Box:
    """Files that replace those of /proc, /sys and /dev, and a systemctl that logs its arguments."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.probe = folder / "probe"
        self.probe.write_bytes(b"identity" * 1024)
        self.mount("rw")
        self.errors(0)
        self.uptime(3600)
        (folder / "systemctl").write_text('#!/bin/sh\necho "$*" >> "$(dirname "$0")/calls"\n')
        (folder / "systemctl").chmod(0o755)

    def mount(self, options: str, kind: str = "ext4", own: str = "rw") -> None:
        """Mount / and the spool, whose file system has these options; `own` is the option of the mounts."""
        root = f"25 1 8:4 / / {own},relatime shared:1 - ext4 /dev/sda4 rw"
        spool = f"44 25 8:9 / {SPOOL} {own},nodev shared:9 master:2 - {kind} {DEVICE} {options}"
        (self._folder / "mounts").write_text(f"{root}\n{spool}\n")

    def errors(self, count: int) -> None:
        (file := self._folder / "ext4/sda9/errors_count").parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{count}\n")

    def uptime(self, seconds: int) -> None:
        (self._folder / "uptime").write_text(f"{seconds}.25 100.00\n")

    def check(self) -> str:
        """Run the check; return the logged arguments of systemctl."""
        files = {"MOUNTS": "mounts", "EXT4": "ext4", "UPTIME": "uptime", "PROBE": "probe"}
        paths = {name: str(self._folder / file) for name, file in files.items()}
        environment = {**os.environ, **paths, "PATH": f"{self._folder}:{os.environ['PATH']}"}
        subprocess.run(["sh", WATCH], env=environment, check=False)
        calls = self._folder / "calls"
        return calls.read_text() if calls.exists() else ""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


RESTART = "reboot --force\n"


@pytest.mark.parametrize(
    "options", ["ro", "ro,seclabel", "rw,emergency_ro", "rw,errors=remount-ro,emergency_ro"]
)
def test_the_box_restarts_when_a_file_system_is_read_only_after_an_error(box: Box, options: str) -> None:
    box.mount(options)
    box.errors(1)
    before = box.probe.read_bytes()
    assert box.check() == RESTART
    assert box.probe.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "errors"), [("rw", 0), ("rw", 3), ("ro", 0), ("rw,errors=remount-ro", 1)]
)
def test_the_box_does_not_restart_for_a_file_system_that_is_writable_or_read_only_by_intent(
    box: Box, options: str, errors: int
) -> None:
    box.mount(options)
    box.errors(errors)
    assert box.check() == ""


def test_the_mounts_of_the_service_are_read_only_without_an_error(box: Box) -> None:
    box.mount("rw", own="ro")
    box.errors(1)
    assert box.check() == ""


def test_the_box_does_not_restart_for_a_file_system_of_another_kind(box: Box) -> None:
    box.mount("ro", kind="squashfs")
    box.errors(1)
    assert box.check() == ""


@pytest.mark.parametrize(("seconds", "calls"), [(119, ""), (120, RESTART)])
def test_the_box_does_not_restart_within_two_minutes_of_its_start(box: Box, seconds: int, calls: str) -> None:
    box.mount("ro")
    box.errors(1)
    box.uptime(seconds)
    assert box.check() == calls


def test_the_box_does_not_restart_while_its_disk_cannot_be_written(box: Box) -> None:
    box.mount("ro")
    box.errors(1)
    box.probe.unlink()
    box.probe.symlink_to("/dev/full")
    assert box.check() == ""


def test_an_installed_box_without_a_partition_to_probe_restarts(box: Box) -> None:
    box.mount("ro")
    box.errors(1)
    box.probe.unlink()
    assert box.check() == RESTART


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[str]:
    """The device of a mounted ext4."""
    (mount_point := tmp_path / "mounted").mkdir()
    with loop_device(tmp_path / "disk", 64 * MIB) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        subprocess.run(["mount", "-o", "errors=remount-ro", device, mount_point], check=True)
        try:
            yield device
        finally:
            subprocess.run(["umount", mount_point], check=True)


@pytest.mark.kernel
def test_the_kernel_reports_an_ext4_error_in_the_expected_form(
    box: Box, tmp_path: Path, mounted: str
) -> None:
    mounts, sys = Path("/proc/self/mountinfo"), Path("/sys/fs/ext4")

    def check() -> str:
        lines = [line for line in mounts.read_text().splitlines() if f" {mounted} " in line]
        (tmp_path / "mounts").write_text("\n".join(lines) + "\n")
        own = sys / Path(mounted).name / "errors_count"
        (file := tmp_path / "ext4" / Path(mounted).name / "errors_count").parent.mkdir(
            parents=True, exist_ok=True
        )
        file.write_text(own.read_text())
        return box.check()

    assert check() == ""
    (sys / Path(mounted).name / "trigger_fs_error").write_text("a test")
    assert check() == RESTART
