"""Every bench on the real kernel: `python -m bench.kernel [--only NAME …]`. Needs root.

Prints target and measured, and writes bench-results/kernel.json. The exit status is 1 if a target is missed, and 3 if
the machine lacks something. All of it happens in network namespaces that go with the processes that made them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, show
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
RESULTS: Final = Path("bench-results/kernel.json")


def measured(name: str) -> list[Figure]:
    """The figures of one bench, and how long it took."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    figures: list[Figure] = import_module(BENCHES[name]).figures()
    figures.append(figure("this bench took", "s", time.monotonic() - began))
    show(figures)
    return [{"bench": name, **line} for line in figures]


def keep(found: list[Figure], chosen: list[str]) -> None:
    """Write them down; what other benches found before stays."""
    before: list[Figure] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    lines = [line for line in before if line["bench"] not in chosen] + found
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(lines, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="benches on the real kernel")
    parser.add_argument("--only", action="append", choices=BENCHES, metavar="NAME", help=", ".join(BENCHES))
    chosen = parser.parse_args().only or list(BENCHES)
    if lacking := missing({"nft": "nftables", "ip": "iproute2"}):
        print(*lacking, sep="\n", file=sys.stderr)
        return 3
    found = [line for name in chosen for line in measured(name)]
    keep(found, chosen)
    missed = [f"{line['bench']}: {line['name'].strip()}" for line in found if not line["holds"]]
    print(f"{len(found)} figures, {len(missed)} missed", *missed, sep="\n  ")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
