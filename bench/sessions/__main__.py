"""All benchmarks of remote sessions: `python -m bench.sessions [--only NAME …]`. See `bench.suite`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from bench.suite import Suite
from tests.support.desktop.vnc_server import PROGRAM


def missing() -> list[str]:
    """Return the requirements that this machine does not meet, one line each, with the remedy."""
    return [] if PROGRAM else ["needs TigerVNC: make setup-sessions"]


SESSIONS: Final = Suite(
    "benchmarks of remote sessions",
    {
        "desktop": "bench.sessions.desktop",
        "exploration": "bench.sessions.exploration",
        "paths": "bench.sessions.paths",
        "opening": "bench.sessions.opening",
        "load": "bench.sessions.load",
        "attacks": "bench.sessions.attacks",
    },
    Path("bench-results/sessions.json"),
    missing,
)

if __name__ == "__main__":
    sys.exit(SESSIONS.main())
