"""Simulates a slow disk: the kernel's block throttle limits the rate of a device for one program.

The throttle counts the requests that the program itself sends to the device, so that it works with O_DIRECT only, and
not through the page cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

V1 = Path("/sys/fs/cgroup/blkio")
V2 = Path("/sys/fs/cgroup")


@contextmanager
def limited(device: str, bytes_per_second: int) -> Iterator[list[str]]:
    """Yield a command prefix with which a program reads and writes the device at no more than this rate."""
    status = Path(device).stat().st_rdev
    number = f"{os.major(status)}:{os.minor(status)}"
    group = (V1 if V1.is_dir() else V2) / f"rap-bench-{os.getpid()}"
    if not V1.is_dir():
        (V2 / "cgroup.subtree_control").write_text("+io")
    group.mkdir()
    try:
        if V1.is_dir():
            for direction in ("read", "write"):
                (group / f"blkio.throttle.{direction}_bps_device").write_text(f"{number} {bytes_per_second}")
        else:
            (group / "io.max").write_text(f"{number} rbps={bytes_per_second} wbps={bytes_per_second}")
        yield ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
    finally:
        group.rmdir()
