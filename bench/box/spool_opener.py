"""Opens a spool and prints the cost: `python -m bench.box.spool_opener DIRECTORY BYTES_MAX`.

It imports only the modules that opening needs, because its memory is measured.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from random import Random

from agents.spool import Priority, Spool, SpoolGap, SpoolLimits
from hal.linux.disk import LinuxDisk


def peak_mb() -> float:
    """Return the peak resident memory of this process (VmHWM) in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].removesuffix("kB")) / 1024


def encode_gap(gap: SpoolGap) -> bytes:
    return repr(gap).encode()


def measure(directory: Path, limits: SpoolLimits) -> dict[str, float]:
    """Open the spool in `directory` and read its first report."""
    before_mb, processor_s, start = peak_mb(), time.process_time(), time.perf_counter()
    spool = Spool.open(LinuxDisk(directory), limits, random=Random(1), encode_gap=encode_gap)
    seconds, processor_s = time.perf_counter() - start, time.process_time() - processor_s
    status = spool.status()
    assert spool.read(Priority.ROUTINE, 1, 1 << 20)
    return {
        "seconds": seconds,
        "processor_s": processor_s,
        "peak_mb": peak_mb(),
        "before_mb": before_mb,
        "live_bytes": status.live_bytes,
        "records": status.records[Priority.ROUTINE],
        "segments": status.segments,
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), SpoolLimits(spool_bytes_max=int(sys.argv[2])))))
