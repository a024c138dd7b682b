"""A disk of a lab: an ext4 file system on a loop device, in memory.

mount(8) attaches the device with LO_FLAGS_AUTOCLEAR, so the kernel detaches it with the last mount (loop(4)),
and mounts end with the lab's mount namespace.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from sim.worlds.kernel import files

BYTES_MIN = 1 << 20


def mount_disk(name: str, size: int) -> Path:
    """Make an empty disk of `size` bytes; the folder at which all hosts of the lab see it."""
    if size < BYTES_MIN:
        raise ValueError(f"a disk of {size} bytes is too small: it takes at least {BYTES_MIN}")
    image = files.FOLDER / f"{name}.img"
    with image.open("xb") as file:
        file.truncate(size)
    folder = files.FOLDER / name
    folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    return folder
