"""All benchmarks of updates: `python -m bench.update [--only NAME …]`, as root. See `bench.suite`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from bench.suite import Suite

PROGRAMS: Final = ("apt-get", "dpkg-deb", "mke2fs", "ostree", "casync", "zstd", "qemu-system-x86_64")


def missing() -> list[str]:
    """Return the requirements that this machine does not meet, one line each, with the remedy."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    problems = [f"needs {', '.join(lacking)}, on Debian: make setup-image"] if lacking else []
    return problems if os.geteuid() == 0 else [*problems, "needs root rights, to unpack packages"]


UPDATE: Final = Suite(
    "benchmarks of updates",
    {"delta": "bench.update.delta", "boots": "bench.update.boots", "inside": "bench.update.inside"},
    Path("bench-results/update.json"),
    missing,
)

if __name__ == "__main__":
    sys.exit(UPDATE.main())
