"""A disk of a lab: an ext4 file system on a loop device in memory, with simulated power cuts.

mount(8) attaches the device with LO_FLAGS_AUTOCLEAR, so that the kernel detaches it with the last mount (loop(4));
mounts end with the lab's mount namespace.

The file behind the device contains the data written to the device, but not data that is still in the page cache or in
the file system's journal in memory. A power cut is therefore a copy of that file.
"""

from __future__ import annotations

import subprocess
from itertools import count
from pathlib import Path
from typing import Final

from sim.worlds.kernel.namespaces import files

BYTES_MIN: Final = 1 << 20


class LoopDisk:
    """A disk of `size` bytes, empty and mounted at `folder` in all hosts. Raises: ValueError if it is too small."""

    def __init__(self, name: str, size: int) -> None:
        if size < BYTES_MIN:
            raise ValueError(f"a disk of {size} bytes is too small: give at least {BYTES_MIN}")
        self.folder: Path = files.FOLDER / name
        self.folder.mkdir()
        self._surfaces = (files.FOLDER / f"{name}-{number}.img" for number in count(1))
        self._surface = next(self._surfaces)
        with self._surface.open("xb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._surface], check=True)
        self.is_mounted = False
        """Whether it has power and is mounted."""
        self.mount()

    def mount(self) -> None:
        """Mount it, which replays the file system's journal; does nothing if it is mounted."""
        if not self.is_mounted:
            # without the lock, labs that start at the same time could get the same loop device, one of them read-only
            mount = ["mount", "-o", "loop", str(self._surface), str(self.folder)]
            subprocess.run(["flock", "/dev/loop-control", *mount], check=True)
            self.is_mounted = True

    def cut_power(self) -> None:
        """Unmount it, keeping only the data written to the device. Programs with open files see the old disk."""
        before, self._surface = self._surface, next(self._surfaces)
        subprocess.run(["cp", "--sparse=always", before, self._surface], check=True)
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        before.unlink()
        self.is_mounted = False
