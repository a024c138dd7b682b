"""Every bench, one after the other: `python -m bench`. Prints target and measured; writes bench-results/bench.json.

The exit status is 1 if a target is missed. Ratios are of things measured side by side in one run; nothing here is
part of the tests.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from bench.figures import Figure, show

BENCHES = ("lab", "wire", "drain", "memory", "buffer")


def main() -> int:
    found: list[Figure] = []
    for name in BENCHES:
        print(f"== {name}", flush=True)
        figures: list[Figure] = import_module(f"bench.{name}").figures()
        show(figures)
        found += [{"bench": name, **line} for line in figures]
    folder = Path("bench-results")
    folder.mkdir(exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(found, indent=2) + "\n")
    missed = [line["name"] for line in found if not line["holds"]]
    print(f"{len(found)} figures, {len(missed)} missed" + "".join(f"\n  {name}" for name in missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
