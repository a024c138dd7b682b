"""Every bench that needs no rights, one after the other: `python -m bench [--only NAME …]`.

Prints target and measured, and writes bench-results/bench.json. The exit status is 1 if a target is missed. Ratios
are of things measured side by side in one run; nothing here is part of the tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.figures import run_all

BENCHES = {
    name: f"bench.{name}"
    for name in ("lab", "wire", "drain", "memory", "many_labs", "buffer", "spool_opening")
}

if __name__ == "__main__":
    sys.exit(run_all(BENCHES, Path("bench-results/bench.json"), __doc__))
