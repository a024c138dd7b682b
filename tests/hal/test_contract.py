"""Both disks and both clocks keep their traits' promises."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from hal.contract import CLOCK_CHECKS, DISK_CHECKS, DiskBench
from hal.disk import Disk, DiskError, DiskErrorKind
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.linux import disk as linux_disk
from hal.linux.clock import LinuxClock
from hal.linux.disk import LinuxDisk


class EmulDiskBench:
    """Power cuts at the end."""

    def __init__(self, seed: int) -> None:
        self.disk: EmulDisk = EmulDisk(1 << 20, Random(seed))

    def reopen(self) -> Disk:
        return self.disk.backend.cut_power()

    def fill(self) -> None:
        self.disk.backend.fill()


class LinuxDiskBench:
    """The process's end: what another descriptor sees. `directory` is on a small file system for `fill`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.disk = LinuxDisk(directory)

    def reopen(self) -> Disk:
        self.disk.close()
        return LinuxDisk(self._directory)

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self._directory / "FILLER").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("check", DISK_CHECKS, ids=lambda check: check.__name__)
def test_emul_disk(check: Callable[[DiskBench], None], seed: int) -> None:
    check(EmulDiskBench(seed))


@pytest.mark.parametrize("check", DISK_CHECKS, ids=lambda check: check.__name__)
def test_linux_disk(
    check: Callable[[DiskBench], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "full" in check.__name__:
        monkeypatch.setattr(LinuxDiskBench, "fill", lambda self: _refuse_room(self, monkeypatch))
    check(LinuxDiskBench(tmp_path / "disk"))


def _refuse_room(bench: LinuxDiskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file system of our own: the kernel's answer is put on until a file is removed."""
    real_fallocate, real_unlink = os.posix_fallocate, os.unlink

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        if not name.endswith("~"):
            monkeypatch.setattr(linux_disk.os, "posix_fallocate", real_fallocate)
        real_unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(linux_disk.os, "posix_fallocate", full)
    monkeypatch.setattr(linux_disk.os, "unlink", unlink)


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    mount = tmp_path / "mnt"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "rap-test", mount], check=False).returncode:
        pytest.skip("needs the right to mount")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


def test_linux_disk_on_a_file_system_that_is_really_full(small_file_system: Path) -> None:
    check = next(check for check in DISK_CHECKS if "full" in check.__name__)
    check(LinuxDiskBench(small_file_system / "disk"))


def test_linux_disk_sweeps_up_a_create_that_was_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a~").write_bytes(b"half")
    assert LinuxDisk(tmp_path).names() == []
    assert list(tmp_path.iterdir()) == []


def test_linux_disk_gives_the_kernels_errors_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LinuxDisk(tmp_path)
    disk.create("a", 512)
    for errno, kind in ((5, DiskErrorKind.IO), (30, DiskErrorKind.IO), (19, DiskErrorKind.GONE)):

        def failing(fd: int, errno: int = errno) -> None:
            raise OSError(errno, "it said")

        monkeypatch.setattr(linux_disk.os, "fdatasync", failing)
        with pytest.raises(DiskError) as caught:
            disk.flush("a")
        assert caught.value.kind is kind


@pytest.mark.parametrize("check", CLOCK_CHECKS)
def test_clocks(check: Callable[[object], None]) -> None:
    check(LinuxClock())
    check(EmulClock(lambda: 10**18))


def test_emul_clock_jumps() -> None:
    clock = EmulClock(lambda: 1000)
    clock.backend.jump(-400)
    assert clock.now_ns() == 600
    clock.backend.jump(10**18)
    assert clock.now_ns() == 600 + 10**18
