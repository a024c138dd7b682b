"""Every bench on the real kernel: `python -m bench.kernel [--only NAME …]`. Needs root.

All of it happens in network namespaces that go with the processes that made them. The rest is `bench.suite`'s.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from bench.suite import Suite
from sim.worlds.kernel import missing

KERNEL: Final = Suite(
    "benches on the real kernel",
    {
        "session": "bench.firewall_session",
        "watch": "bench.firewall_watch",
        "proof": "bench.firewall_proof",
        "forward": "bench.firewall_forward",
        "lab": "bench.kernel_lab",
        "tcp": "bench.tcp",
        "sweep": "bench.firewall_sweep",
        "fuzz": "bench.firewall_fuzz",
        "reload": "bench.firewall_reload",
    },
    Path("bench-results/kernel.json"),
    lambda: missing({"nft": "nftables", "ip": "iproute2"}),
)


if __name__ == "__main__":
    sys.exit(KERNEL.main())
