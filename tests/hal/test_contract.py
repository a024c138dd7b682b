"""Both implementations of disk and clock pass the conformance suite."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from hal.clock import ClockError, ClockErrorKind
from hal.contract import CLOCK_CHECKS, DISK_CHECKS, DiskBench
from hal.disk import Disk, DiskError, DiskErrorKind
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.linux.clock import LinuxClock
from hal.linux.disk import LinuxDisk
from tests.support.paths import ROOT

SIZE = 64 * 1024


class EmulDiskBench:
    """`reopen` cuts the power."""

    def __init__(self, seed: int) -> None:
        self.disk: EmulDisk = EmulDisk(1 << 20, Random(seed))

    def reopen(self) -> Disk:
        return self.disk.backend.cut_power()

    def fill(self) -> None:
        self.disk.backend.fill()


class LinuxDiskBench:
    """`reopen` emulates a restart of the process: new descriptors read the files. `fill` needs a small disk."""

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
    if "space" in check.__name__:
        monkeypatch.setattr(LinuxDiskBench, "fill", lambda self: _refuse_space(self, monkeypatch))
    check(LinuxDiskBench(tmp_path / "disk"))


def _refuse_space(bench: LinuxDiskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulate a full disk without a small file system: fail `fallocate` until a file is removed."""
    real_fallocate, real_unlink = os.posix_fallocate, os.unlink

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        if not name.endswith("~"):
            monkeypatch.setattr(os, "posix_fallocate", real_fallocate)
        real_unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(os, "unlink", unlink)


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


def test_linux_disk_on_a_full_file_system(small_file_system: Path) -> None:
    check = next(check for check in DISK_CHECKS if "space" in check.__name__)
    check(LinuxDiskBench(small_file_system / "disk"))


def test_linux_disk_removes_files_of_an_interrupted_create(tmp_path: Path) -> None:
    (tmp_path / "a~").write_bytes(b"half")
    assert LinuxDisk(tmp_path).names() == []
    assert list(tmp_path.iterdir()) == []


def test_linux_disk_maps_kernel_errors_to_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LinuxDisk(tmp_path)
    disk.create("a", 512)
    for code, kind in (
        (errno.EIO, DiskErrorKind.IO),
        (errno.EROFS, DiskErrorKind.IO),
        (errno.ENODEV, DiskErrorKind.UNAVAILABLE),
    ):

        def failing(fd: int, code: int = code) -> None:
            raise OSError(code, "reason")

        monkeypatch.setattr(os, "fdatasync", failing)
        with pytest.raises(DiskError) as caught:
            disk.flush("a")
        assert caught.value.kind is kind


@pytest.mark.parametrize("check", CLOCK_CHECKS)
def test_linux_clock_without_its_service_and_emul_clock(check: Callable[[object], None]) -> None:
    check(LinuxClock())
    check(EmulClock(lambda: 10**18))


def test_emul_clock_jumps() -> None:
    clock = EmulClock(lambda: 1000)
    clock.backend.jump(-400)
    assert clock.now_ns() == 600
    clock.backend.jump(10**18)
    assert clock.now_ns() == 600 + 10**18


def test_emul_clock_is_set() -> None:
    now = [1000]
    clock = EmulClock(lambda: now[0])
    clock.set(5000)
    now[0] += 7
    assert clock.now_ns() == 5007
    clock.backend.may_be_set = False
    with pytest.raises(ClockError) as caught:
        clock.set(1)
    assert (caught.value.kind, clock.now_ns()) == (ClockErrorKind.NOT_PERMITTED, 5007)


SET_CLOCK = ROOT / "firmware-image/root/usr/libexec/rap/set-clock"


@contextlib.contextmanager
def clock_service(folder: Path, *without: str) -> Iterator[Path]:
    """Start the clock-setting service for one request as systemd does: standard input is the listening socket."""
    path = folder / "clock.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with subprocess.Popen(
            [*without, sys.executable, "-IS", SET_CLOCK], stdin=listener.fileno()
        ) as service:
            try:
                yield path
            finally:
                service.kill()


@pytest.mark.parametrize("check", CLOCK_CHECKS)
def test_linux_clock_with_its_service(check: Callable[[object], None], tmp_path: Path) -> None:
    with clock_service(tmp_path) as path:
        check(LinuxClock(path))


def without_the_capability() -> list[str]:
    return ["setpriv", "--bounding-set=-sys_time"] if os.geteuid() == 0 else []


def test_linux_clock_is_set_only_by_the_service(tmp_path: Path) -> None:
    with clock_service(tmp_path, *without_the_capability()) as path:
        with pytest.raises(ClockError, match="refused") as caught:
            LinuxClock(path).set(time.time_ns())
        assert caught.value.kind is ClockErrorKind.NOT_PERMITTED
    for service in (None, tmp_path / "missing.sock"):
        with pytest.raises(ClockError) as caught:
            LinuxClock(service).set(time.time_ns())
        assert caught.value.kind is ClockErrorKind.NOT_PERMITTED


@pytest.mark.parametrize("request_", [b"", b"soon\n", b"-5\n", b"9" * 40, b"1e9\n"])
def test_the_service_refuses_invalid_times(request_: bytes, tmp_path: Path) -> None:
    with clock_service(tmp_path) as path, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(request_)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"refused\n"


def has_direct_descriptor(file: Path) -> bool:
    """Return whether this process has the file open for direct I/O."""
    own = [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and fd.readlink() == file]
    texts = [Path(f"/proc/self/fdinfo/{fd.name}").read_text() for fd in own]
    flags = [int(line.split()[1], 8) for text in texts for line in text.splitlines() if "flags:" in line]
    return any(flag & os.O_DIRECT for flag in flags)


def test_linux_disk_reads_direct_and_cached_writes(tmp_path: Path) -> None:
    """Overlapping direct and cached writes in random order read back correctly."""
    disk, expected, random = LinuxDisk(tmp_path), bytearray(SIZE), Random(1)
    disk.create("a", SIZE)
    for turn in range(300):
        unit = random.choice([1, 512])
        offset, size = random.randrange(SIZE // 2 // unit) * unit, random.randrange(20 * 512 // unit) * unit
        data = random.randbytes(size)
        (disk.write if turn % 3 == 2 else disk.commit)("a", offset, data)
        expected[offset : offset + size] = data
        assert disk.read("a", 0, SIZE) == expected
    assert has_direct_descriptor(tmp_path / "a") == hasattr(os, "O_DIRECT")
    disk.rename("a", "b")
    disk.commit("b", 0, bytes(512))
    assert disk.read("b", 0, 1024) == bytes(512) + expected[512:1024]
    disk.close()
    assert LinuxDisk(tmp_path).read("b", 512, SIZE - 512) == expected[512:]


@pytest.mark.parametrize("call", ["open", "pwritev"])
def test_linux_disk_commits_through_the_cache_if_direct_io_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    disk, real = LinuxDisk(tmp_path), getattr(os, call)
    disk.create("a", SIZE)

    def refuse(*args: object, **options: object) -> object:
        is_direct = args[1] & os.O_DIRECT if call == "open" else isinstance(args[1][0], memoryview)  # type: ignore[operator, index]
        if is_direct:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(*args, **options)

    monkeypatch.setattr(os, call, refuse)
    for turn in range(2):
        disk.commit("a", 512 * turn, b"x" * 512)
    assert disk.read("a", 0, 1536) == b"x" * 1024 + bytes(512)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_linux_disk_closes_all_descriptors(tmp_path: Path) -> None:
    before = _descriptors()
    disk = LinuxDisk(tmp_path)
    for name in ("a", "b", "c"):
        disk.create(name, SIZE)
        disk.commit(name, 0, bytes(512))
    disk.rename("a", "b")
    disk.remove("c")
    disk.commit("b", 512, bytes(512))
    assert _descriptors() == before + 3, "the directory, and one file with and without direct I/O"
    disk.close()
    assert _descriptors() == before


def test_linux_disk_keeps_the_old_name_if_the_rename_cannot_be_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = LinuxDisk(tmp_path)
    disk.create("a", 512)

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(DiskError):
            disk.rename("a", "b")
    assert disk.names() == ["a"]
    disk.rename("a", "c")
    assert disk.names() == ["c"] and disk.read("c", 0, 512) == bytes(512)
