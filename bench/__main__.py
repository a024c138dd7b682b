"""All benchmarks that need no root rights: `python -m bench [--only NAME …]`. See `bench.suite`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from bench.suite import Suite

BENCH: Final = Suite(
    "benchmarks that need no root rights",
    {
        "lab": "bench.lab.speed",
        "history": "bench.lab.history",
        "entropy": "bench.lab.entropy",
        "wire": "bench.lab.wire",
        "enrolment": "bench.lab.enrolment",
        "drain": "bench.lab.drain",
        "files": "bench.lab.files",
        "astm": "bench.box.astm",
        "astm_peer": "bench.box.astm_peer",
        "hl7": "bench.box.hl7",
        "adapted": "bench.box.adapted",
        "adapter_cost": "bench.box.adapter_cost",
        "memory": "bench.box.memory",
        "adapted_box": "bench.box.adapted_box",
        "many_labs": "bench.lab.many_labs",
        "dialects": "bench.lab.dialects",
        "buffer": "bench.box.spool",
        "spool_opening": "bench.box.spool_opening",
        "audit_loss": "bench.box.audit_loss",
    },
    Path("bench-results/bench.json"),
)

if __name__ == "__main__":
    sys.exit(BENCH.main())
