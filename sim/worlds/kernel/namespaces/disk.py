"""A disk of a lab: an ext4 file system on a loop device in memory, with simulated power cuts.

mount(8) attaches the device with LO_FLAGS_AUTOCLEAR, so that the kernel detaches it with the last mount (loop(4));
mounts end with the lab's mount namespace.

The file behind the device contains the data written to the device, but not data that is still in the page cache or in
the file system's journal in memory. A power cut is therefore a copy of that file.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from sim.worlds.kernel.namespaces import files

BYTES_MIN: Final = 1 << 20
_CLEAN, _CORRECTED = 0, 1
"""Exit statuses of e2fsck(8)."""


@contextmanager
def _writable_sysfs() -> Iterator[Path]:
    """Mount a writable sysfs at a folder of the lab, which otherwise sees the machine's files and /sys read-only."""
    folder = files.FOLDER / "sysfs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "sysfs", "sysfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


class LoopDisk:
    """A disk of `size` bytes, empty and mounted at `folder` in all hosts. Raises: ValueError if it is too small."""

    def __init__(self, name: str, size: int) -> None:
        if size < BYTES_MIN:
            raise ValueError(f"a disk of {size} bytes is too small: give at least {BYTES_MIN}")
        self.folder: Path = files.FOLDER / name
        self.folder.mkdir()
        self._images = (files.FOLDER / f"{name}-{number}.img" for number in count(1))
        self._image = next(self._images)
        with self._image.open("xb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)
        self.is_mounted = False
        """Whether it has power and is mounted."""
        self.mount()

    def mount(self) -> None:
        """Mount it, which replays the file system's journal; does nothing if it is mounted."""
        if not self.is_mounted:
            self._check()
            # without the lock, labs that start at the same time could get the same loop device, one of them read-only
            mount = ["mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder)]
            subprocess.run(["flock", "/dev/loop-control", *mount], check=True)
            self.is_mounted = True

    def _check(self) -> None:
        """Repair the unmounted file system, as systems do while they boot. Raises: RuntimeError if that fails."""
        result = subprocess.run(["e2fsck", "-p", self._image], check=False, capture_output=True, text=True)
        if result.returncode not in (_CLEAN, _CORRECTED):
            raise RuntimeError(f"e2fsck: {result.stdout}{result.stderr}")

    def make_read_only(self) -> None:
        """Trigger an ext4 error, which makes the mounted file system read-only until it is unmounted and checked.

        A file system with files open for writing cannot be remounted read-only. A failed write to an SSD has the same
        effect as this error: open files can still be read. Raises: OSError.
        """
        device = self.folder.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        with _writable_sysfs() as sysfs:
            (sysfs / "fs/ext4" / name / "trigger_fs_error").write_text("simulated")

    def cut_power(self) -> None:
        """Unmount it, keeping only the data written to the device. Programs with open files see the old disk."""
        previous, self._image = self._image, next(self._images)
        subprocess.run(["cp", "--sparse=always", previous, self._image], check=True)
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        previous.unlink()
        self.is_mounted = False
