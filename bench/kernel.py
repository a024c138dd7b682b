"""Every bench on the real kernel: `python -m bench.kernel [--only NAME …]`. Needs root.

Prints target and measured, and writes bench-results/kernel.json. The exit status is 1 if a target is missed, and 3 if
the machine lacks something. All of it happens in network namespaces that go with the processes that made them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from bench.figures import run_all
from sim.worlds.kernel import missing

BENCHES: Final = {
    "session": "bench.firewall_session",
    "watch": "bench.firewall_watch",
    "proof": "bench.firewall_proof",
    "forward": "bench.firewall_forward",
    "lab": "bench.kernel_lab",
    "sweep": "bench.firewall_sweep",
    "fuzz": "bench.firewall_fuzz",
    "reload": "bench.firewall_reload",
}
"""The quick ones first."""

if __name__ == "__main__":
    lacking = missing({"nft": "nftables", "ip": "iproute2"})
    sys.exit(run_all(BENCHES, Path("bench-results/kernel.json"), __doc__, lacking))
