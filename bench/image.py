"""Every bench of images and of flashing: `python -m bench.image [--only NAME …]`. Needs root.

The first run makes the stand-in's repository, in a minute. The rest is `bench.suite`'s.
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
    """What the machine lacks, each with what to do."""
    lacking = [] if os.geteuid() == 0 else ["needs root: loop devices, and files of many users"]
    return lacking + [f"needs {name}: make setup-image" for name in PROGRAMS if not shutil.which(name)]


IMAGE: Final = Suite(
    "benches of images and of flashing",
    {
        "disks": "bench.flash_disks",
        "cuts": "bench.flash_cuts",
        "packages": "bench.image_packages",
        "flash": "bench.flash",
        "stig": "bench.image_stig",
        "boot": "bench.boot",
    },
    Path("bench-results/image.json"),
    missing,
)


if __name__ == "__main__":
    sys.exit(IMAGE.main())
