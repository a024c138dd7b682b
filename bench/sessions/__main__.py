"""All benchmarks of remote sessions: `python -m bench.sessions [--only NAME …]`. See `bench.suite`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from bench.suite import Suite

SESSIONS: Final = Suite(
    "benchmarks of remote sessions",
    {"exploration": "bench.sessions.exploration"},
    Path("bench-results/sessions.json"),
)

if __name__ == "__main__":
    sys.exit(SESSIONS.main())
