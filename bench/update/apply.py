"""Applies a delta as a box does: `python -m bench.update.apply DELTA SOURCE TARGET`; prints memory and time."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from wire.release.delta import Delta, Read


def _reader(fd: int) -> Read:
    return lambda offset, length: os.pread(fd, length, offset)


def _peak_bytes() -> int:
    """Return the peak of this program's memory; that of getrusage(2) includes the program that has started it."""
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


def main(delta: str, source: str, target: str) -> None:
    delta_fd, source_fd = os.open(delta, os.O_RDONLY), os.open(source, os.O_RDONLY)
    target_fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    began = time.monotonic()
    opened = Delta.open(_reader(delta_fd), os.fstat(delta_fd).st_size)
    longest = last = 0.0
    for _ in opened.apply(
        _reader(source_fd), lambda offset, data: os.pwrite(target_fd, data, offset), _reader(target_fd)
    ):
        now = time.process_time()
        longest, last = max(longest, now - last), now
    measured = {
        "cpu_s": sum(os.times()[:4]),  # with that of gzip
        "wall_s": time.monotonic() - began,
        "memory_mb": _peak_bytes() / 1e6,
        "longest_operation_s": longest,
    }
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
