"""Every bench of images and of flashing: `python -m bench.image [--only NAME …]`. Needs root.

Prints target and measured, and writes bench-results/image.json. The exit status is 1 if a target is missed, and 3 if
the machine lacks something. The first run makes the stand-in's repository, in a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, show

BENCHES: Final = {
    "disks": "bench.flash_disks",
    "cuts": "bench.flash_cuts",
    "packages": "bench.image_packages",
    "flash": "bench.flash",
    "stig": "bench.image_stig",
    "boot": "bench.boot",
}
"""The quick ones first."""
RESULTS: Final = Path("bench-results/image.json")
PROGRAMS: Final = (
    "bmaptool",
    "sfdisk",
    "losetup",
    "dnf",
    "rpmbuild",
    "createrepo_c",
    "qemu-system-x86_64",
    "oscap",
)


def missing() -> list[str]:
    """What the machine lacks, each with what to do."""
    lacking = [] if os.geteuid() == 0 else ["needs root: loop devices, and files of many users"]
    return lacking + [f"needs {name}: make setup-image" for name in PROGRAMS if not shutil.which(name)]


def measured(name: str) -> list[Figure]:
    """The figures of one bench, and how long it took; kept at once, whatever the next one meets."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    figures: list[Figure] = import_module(BENCHES[name]).figures()
    figures.append(figure("this bench took", "s", time.monotonic() - began))
    show(figures)
    found = [{"bench": name, **line} for line in figures]
    keep(found, name)
    return found


def keep(found: list[Figure], name: str) -> None:
    """Write them down; what other benches found stays."""
    before: list[Figure] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    lines = [line for line in before if line["bench"] != name] + found
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(lines, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="benches of images and of flashing")
    parser.add_argument("--only", action="append", choices=BENCHES, metavar="NAME", help=", ".join(BENCHES))
    chosen = parser.parse_args().only or list(BENCHES)
    if lacking := missing():
        print(*lacking, sep="\n", file=sys.stderr)
        return 3
    found = [line for name in chosen for line in measured(name)]
    missed = [f"{line['bench']}: {line['name'].strip()}" for line in found if not line["holds"]]
    print(f"{len(found)} figures, {len(missed)} missed", *missed, sep="\n  ")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
