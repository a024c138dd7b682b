"""The file system of a lab: the machine's own, read-only, with /run, /tmp, /var/tmp and /dev/shm in memory.

Programs of the lab find their libraries and Python, and cannot leave files that outlive the lab. Mounts made in the
lab appear in its hosts too, and nowhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sim.worlds.kernel.namespaces import syscalls
from sim.worlds.kernel.namespaces.syscalls import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)

FOLDER: Final = Path("/run/lab")
"""The lab's own folder, on a tmpfs."""
NAMESPACES: Final = Path("/run/netns")
"""The folder in which `ip netns` finds the networks of hosts."""
_IN_MEMORY: Final = {"/run": "755", "/tmp": "1777", "/var/tmp": "1777", "/dev/shm": "1777"}  # noqa: S108
_PROGRAM: Final = (Path(sys.prefix), Path(__file__).parents[4])
"""Folders that Python needs, which may be below a folder that is replaced by a tmpfs."""
_DEVICELESS: Final = MS_NOSUID | MS_NODEV | MS_NOEXEC


def mount_lab_files(writable: Sequence[Path], readable: Sequence[Path] = ()) -> None:
    """Set up the calling process's new mount namespace for a lab; the folders `writable` stay writable.

    The folders `readable` stay visible even below a folder that the lab replaces with a tmpfs.
    """
    syscalls.mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)
    preserved = [(folder.resolve(), False) for folder in (*_PROGRAM, *readable)]
    preserved += [(folder.resolve(), True) for folder in writable]
    opened = [
        (os.open(folder, os.O_PATH | os.O_DIRECTORY), folder, is_writable)
        for folder, is_writable in preserved
    ]
    syscalls.set_writable(Path("/"), writable=False)
    for path, mode in _IN_MEMORY.items():
        if Path(path).is_dir():
            syscalls.mount("tmpfs", Path(path), "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    for descriptor, folder, is_writable in opened:
        folder.mkdir(parents=True, exist_ok=True)
        syscalls.mount(f"/proc/self/fd/{descriptor}", folder, flags=MS_BIND | MS_REC)
        syscalls.set_writable(folder, writable=is_writable)
        os.close(descriptor)
    syscalls.mount("proc", Path("/proc"), "proc", _DEVICELESS)
    syscalls.mount("none", Path("/"), flags=MS_REC | MS_SHARED)
    FOLDER.mkdir()
    NAMESPACES.mkdir()
    os.chdir(FOLDER)


def mount_host_files() -> None:
    """Set up a host's new mount namespace: the lab's files, and a /sys that shows the host's own network."""
    syscalls.mount("none", Path("/"), flags=MS_REC | MS_SLAVE)
    syscalls.mount("sysfs", Path("/sys"), "sysfs", _DEVICELESS)


def name_network(name: str) -> None:
    """Register the calling thread's network namespace with `ip netns` under a name."""
    file = NAMESPACES / name
    file.touch()
    syscalls.mount("/proc/thread-self/ns/net", file, flags=MS_BIND)
