"""All benchmarks of images and of flashing: `python -m bench.image [--only NAME …]`. Needs root. See `bench.suite`.

The first run makes the mock repository, which takes a minute.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from bench.suite import Suite

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
    """Return the requirements that this machine does not meet, one line each, with the remedy."""
    lacking = (
        [] if os.geteuid() == 0 else ["needs root rights, for loop devices and for files with other owners"]
    )
    return lacking + [f"needs {name}: make setup-image" for name in PROGRAMS if not shutil.which(name)]


IMAGE: Final = Suite(
    "benchmarks of images and of flashing",
    {
        "disks": "bench.image.flashing.disks",
        "slots": "bench.image.slots",
        "flash-cuts": "bench.image.flashing.power_cuts",
        "packages": "bench.image.packages",
        "kickstarts": "bench.image.kickstarts",
        "flash": "bench.image.flashing.flash",
        "stig": "bench.image.stig",
        "boot": "bench.image.boot",
        "encryption": "bench.image.encryption",
        "labs": "bench.image.labs",
        "cuts": "bench.image.start_cuts",
        "trust": "bench.image.trust",
        "trust-tree": "bench.image.trust_tree",
    },
    Path("bench-results/image.json"),
    missing,
)


if __name__ == "__main__":
    sys.exit(IMAGE.main())
