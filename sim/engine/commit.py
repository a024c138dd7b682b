"""Which commit of the program runs: beside lab and seed, what a failure's replay depends on."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_DESCRIBE: Final = ("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def commit(checkout: Path = _CHECKOUT) -> str | None:
    """The commit that is checked out, with "-dirty" if files differ from it; None where git does not say."""
    only_here = (f"--git-dir={checkout / '.git'}", f"--work-tree={checkout}")  # and in no folder above
    try:
        said = subprocess.run(("git", *only_here, *_DESCRIBE), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()
