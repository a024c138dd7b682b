"""The cost of opening a large spool: `python -m bench.box.spool_opening [--json]`.

Two spools in sparse files, written by the spool itself: 16 GiB of waiting reports of 512 bytes, and the largest that
a configuration permits, 1 TiB in 16,384 files with 10 million waiting records. Each is opened by a separate process
that imports only what opening needs; the peak memory is the kernel's VmHWM of that process, interpreter included.
The page cache does not contain the content of the files when that process starts, but may contain the directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from agents.box.configuration.config import SPOOL_BYTES_MAX
from agents.spool import Priority, SpoolLimits
from bench.figures import Figure, figure, run
from tests.support.agents.spool.sparse_spool import make_sparse_spool

GIB = 1024**3
WAITING_BYTES = 16 * GIB
RECORD = bytes(512)
LARGEST = SpoolLimits(spool_bytes_max=SPOOL_BYTES_MAX)
WAITING = SpoolLimits(spool_bytes_max=WAITING_BYTES + GIB)


def opened(directory: Path, limits: SpoolLimits) -> dict[str, float]:
    """Return the figures of `bench.box.spool_opener`, run as a separate process without cached file content."""
    os.sync()
    for path in directory.iterdir():
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    command = [sys.executable, "-m", "bench.box.spool_opener", str(directory), str(limits.spool_bytes_max)]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(child.stdout)
    return result


def sparse(
    name: str,
    limits: SpoolLimits,
    segments: int,
    groups: Sequence[tuple[bytes, Sequence[bytes]]],
    seconds: str,
) -> list[Figure]:
    """Make a spool and open it; `seconds` is the target for opening."""
    build = Path("build")
    build.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=build) as folder:
        make_sparse_spool(Path(folder), limits, segments, groups)
        measured = opened(Path(folder), limits)
    return [
        figure(f"{name}: live", "GiB", measured["live_bytes"] / GIB),
        figure(f"{name}: waiting", "records", measured["records"]),
        figure(f"{name}: files", "files", measured["segments"]),
        figure(f"{name}: opening", "s", measured["seconds"], seconds),
        figure(f"{name}: processor time of opening", "s", measured["processor_s"]),
        figure(f"{name}: peak memory of the process", "MB", measured["peak_mb"], "<= 64"),
        figure(f"{name}: memory of the process before opening", "MB", measured["before_mb"]),
    ]


def figures() -> list[Figure]:
    """Return all figures. Making the spools takes minutes and 2 GB of disk space."""
    reports = bytes((Priority.ROUTINE,))
    group = reports * 960, [RECORD] * 960
    groups_per_segment = WAITING.segment_bytes_writable // (960 * (len(RECORD) + 18) + 512)
    segments = WAITING_BYTES // WAITING.segment_bytes
    return [
        *sparse("16 GiB", WAITING, segments, [group] * groups_per_segment, "<= 3"),
        *sparse("1 TiB", LARGEST, 16 * 1024 - 1, [(reports * 611, [b"a record"] * 611)], ""),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
