"""Resource limits of this process: open files, memory, and file system space."""

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
    """Return bounds for descriptors (RLIMIT_NOFILE) and for memory (control group or machine)."""
    limit = memory_limit()
    return Bound("descriptors", _descriptors), Bound("memory", lambda: (_resident_bytes(), limit))


def memory_limit(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Return the memory limit in bytes: the smallest MemoryMax of the unit and its parents, or all memory."""
    limits = [os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES]
    folder = cgroups / _control_group(proc)
    for ancestor in (folder, *folder.parents):
        if not ancestor.is_relative_to(cgroups):
            break
        try:
            limits.append(int((ancestor / "memory.max").read_text()))
        except (OSError, ValueError):  # the root has no such file, and "max" means no limit
            continue
    return min(limits)


def _control_group(proc: Path) -> str:
    """Return the process's control group (version 2), relative to the root group; cgroups(7)."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")


def _descriptors() -> Measured | None:
    try:
        count = sum(1 for _ in (PROC / "fd").iterdir()) - 1  # less the descriptor of this listing
    except OSError:  # no descriptor is left for the listing
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return limit, limit
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else (count, limit)


def _resident_bytes() -> int:
    """Return the process's own resident memory; its control group's figure also includes the page cache."""
    _, resident, shared = map(int, (PROC / "statm").read_text().split()[:3])
    return (resident - shared) * _PAGE_BYTES


def used_and_total(folder: Path) -> tuple[int, int]:
    """Return bytes in use in the file system of `folder`, and all that its user may use. Raises: OSError."""
    status = os.statvfs(folder)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    return used, used + status.f_bavail * status.f_frsize
