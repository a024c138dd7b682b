"""All benchmarks on this machine's kernel: `python -m bench.kernel [--only NAME …]`. Needs root. See `bench.suite`.

Each benchmark uses new network namespaces, which the kernel removes when the processes end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from bench.suite import Suite
from sim.worlds.kernel import missing

KERNEL: Final = Suite(
    "benchmarks on this machine's kernel",
    {
        "session": "bench.firewall.session",
        "watch": "bench.firewall.watch",
        "proof": "bench.firewall.proof",
        "forward": "bench.firewall.forward",
        "lab": "bench.lab.kernel_world",
        "tcp": "bench.lab.tcp",
        "sweep": "bench.firewall.sweep",
        "fuzz": "bench.firewall.fuzz",
        "reload": "bench.firewall.reload",
    },
    Path("bench-results/kernel.json"),
    lambda: missing({"nft": "nftables", "ip": "iproute2"}),
)


if __name__ == "__main__":
    sys.exit(KERNEL.main())
