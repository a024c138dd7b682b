"""Measures a bare boot of systemd with a box's kernel, initramfs and packages, for comparison with a box's boot.

The bare system is the box's image with one file system in /etc/fstab and without enabled services. Its boot shows how
long the machine takes from power-on to the login prompt without any of the box's programs.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Final

from imaging.flash import gpt
from imaging.kickstart.data import MIB
from tests.support.imaging.starts.emulated import Machine

_ROOT: Final = "root-a"
_STARTED_SERVICES: Final = "etc/systemd/system/multi-user.target.wants"
_PROMPT: Final = "login:"
_POLL_SECONDS: Final = 0.1


def make_bare(image: Path, copy: Path) -> None:
    """Copy the image, and remove from the copy the file systems and services that a bare system does not start."""
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    with copy.open("rb") as disk:
        partition = next(part for part in gpt.slices(disk.read(MIB)) if part.label == _ROOT)
    (root := copy.with_suffix(".mounted")).mkdir()
    options = f"loop,offset={partition.offset},sizelimit={partition.length}"
    subprocess.run(["mount", "-o", options, copy, root], check=True)
    try:
        table = root / "etc/fstab"
        lines = table.read_text().splitlines()
        table.write_text("".join(f"{line}\n" for line in lines if line.split()[1] == "/"))
        for link in (root / _STARTED_SERVICES).iterdir():
            link.unlink()
    finally:
        subprocess.run(["umount", root], check=True)


def prompt_seconds(folder: Path, image: Path, cables: dict[int, str], seconds_max: float) -> float:
    """Return the seconds from power-on to the login prompt on the serial console. Raises: TimeoutError."""
    machine = Machine(folder, image, cables)
    try:
        while (elapsed := time.monotonic() - machine.powered_on) < seconds_max:
            if _PROMPT in machine.log():
                return elapsed
            time.sleep(_POLL_SECONDS)
    finally:
        machine.stop()
    raise TimeoutError(f"no login prompt within {seconds_max:.0f} s")
