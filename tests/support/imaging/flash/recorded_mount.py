"""Recordings of the kernel's writes to a mounted ext4.

The NBD server of the image world records the requests (`sim.worlds.image.disk.recording`). QEMU's storage daemon
exports its disk as a file through FUSE, and a loop device makes the file mountable.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from sim.worlds.image.disk.recording import RecordedRequest, recorded
from tests.support.eventually import poll_until
from tests.support.imaging.flash.images import loop_device
from tests.support.paths import ROOT

_PROGRAMS: Final = ("qemu-storage-daemon", "mke2fs", "e2fsck", "debugfs", "tune2fs")


def need_recorder() -> None:
    """Skip the test if QEMU, e2fsprogs or FUSE is missing."""
    if missing := [name for name in _PROGRAMS if not shutil.which(name)]:
        pytest.skip(f"needs {', '.join(missing)}: make setup-image")
    if not Path("/dev/fuse").exists():
        pytest.skip("this kernel has no /dev/fuse")


def record_mount(folder: Path, disk: Path, work: Callable[[Path], None]) -> list[RecordedRequest]:
    """Twice mount the ext4 in `disk`, call `work` with the mount point and unmount; return the writes and flushes."""
    mount_point = folder / "mounted"
    mount_point.mkdir()
    with _exported(folder, disk) as file, loop_device(file) as device:
        for _ in range(2):
            subprocess.run(["mount", device, mount_point], check=True)
            try:
                work(mount_point)
            finally:
                subprocess.run(["umount", mount_point], check=True)
    return list(recorded(folder / "recording"))


@contextmanager
def _exported(folder: Path, disk: Path) -> Iterator[Path]:
    """Yield a file with the contents of `disk`; its writes and flushes are recorded in `folder`/recording."""
    export, socket, control = (folder / name for name in ("export", "disk.sock", "control.sock"))
    export.touch()
    arguments = [disk, socket, control, 1, folder / "recording"]
    server = subprocess.Popen(
        [sys.executable, "-m", "sim.worlds.image.disk.server", *map(str, arguments)], cwd=ROOT
    )
    try:
        poll_until(control.exists)
        node = f"driver=nbd,node-name=disk,server.type=unix,server.path={socket}"
        fuse = f"type=fuse,id=disk,node-name=disk,mountpoint={export},writable=on,growable=off"
        daemon = subprocess.Popen(["qemu-storage-daemon", "--blockdev", node, "--export", fuse])
        try:
            poll_until(lambda: export.stat().st_size == disk.stat().st_size)
            yield export
        finally:
            daemon.terminate()
            daemon.wait()
    finally:
        server.kill()
        server.wait()
