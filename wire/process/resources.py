"""What the system limits for this process: open files, memory, and room in a file system."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from wire.process.bounds import Bound, Measured

PROC: Final = Path("/proc/self")
CGROUPS: Final = Path("/sys/fs/cgroup")
_PAGE_BYTES: Final = resource.getpagesize()


def process_bounds() -> tuple[Bound, Bound]:
    """Descriptors against RLIMIT_NOFILE, and memory against the limit of its control group or the machine's."""
    limit = memory_limit()
    return Bound("descriptors", _descriptors), Bound("memory", lambda: (_resident_bytes(), limit))


def memory_limit(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """How many bytes of memory this process may have: MemoryMax of its unit and the units above, or the machine's."""
    limits = [os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES]
    folder = cgroups / _control_group(proc)
    for each in (folder, *folder.parents):
        if not each.is_relative_to(cgroups):
            break
        try:
            limits.append(int((each / "memory.max").read_text()))
        except (OSError, ValueError):  # the root has no such file, and "max" is no limit
            continue
    return min(limits)


def _control_group(proc: Path) -> str:
    """The process's control group (version 2), relative to the root of all; cgroups(7)."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")


def _descriptors() -> Measured | None:
    try:
        count = sum(1 for _ in (PROC / "fd").iterdir()) - 1  # less the one of this listing
    except OSError:  # none is left for it
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return limit, limit
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else (count, limit)


def _resident_bytes() -> int:
    """Memory that the process itself has; its control group also counts the files that the kernel caches for it."""
    _, resident, shared = map(int, (PROC / "statm").read_text().split()[:3])
    return (resident - shared) * _PAGE_BYTES


def used_and_total(folder: Path) -> tuple[int, int]:
    """Bytes that are in use in the file system of `folder`, and all that its user may use. Raises OSError."""
    found = os.statvfs(folder)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    return used, used + found.f_bavail * found.f_frsize
