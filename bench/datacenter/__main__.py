"""All benchmarks of the data center: `python -m bench.datacenter [--only NAME …]`. See `bench.suite`.

They use PostgreSQL, Chromium and promtool, and no root rights. `SCALE=0.1` reduces all sizes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from bench.suite import Suite
from tests.support.datacenter.store.postgres import find_programs
from tests.support.datacenter.web.browser import PROGRAM


def missing() -> list[str]:
    """Return the requirements that this machine does not meet, one line each, with the remedy."""
    programs = {"PostgreSQL": find_programs(), "chromium": PROGRAM, "promtool": shutil.which("promtool")}
    return [f"needs {name}: make setup-datacenter" for name, program in programs.items() if program is None]


DATACENTER: Final = Suite(
    "benchmarks of the data center",
    {
        "triggers": "bench.datacenter.triggers",
        "promtool": "bench.datacenter.promtool",
        "chunks": "bench.datacenter.chunks",
        "backtest": "bench.datacenter.backtest",
        "installed_base": "bench.datacenter.base",
        "pages": "bench.datacenter.pages",
        "ingest": "bench.datacenter.ingest",
        "day": "bench.datacenter.day",
        "kills": "bench.datacenter.kills",
        "alerting": "bench.datacenter.alerting",
        "verdicts": "bench.datacenter.verdicts",
        "access": "bench.datacenter.access",
    },
    Path("bench-results/datacenter.json"),
    missing,
)

if __name__ == "__main__":
    sys.exit(DATACENTER.main())
