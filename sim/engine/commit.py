"""The commit of the running program. With the lab and the seed, it determines a run in the virtual world."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_DESCRIBE: Final = ("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def commit(checkout: Path = _CHECKOUT) -> str | None:
    """Return the checked-out commit, with "-dirty" if files differ; None outside a checkout or without git."""
    repository = (f"--git-dir={checkout / '.git'}", f"--work-tree={checkout}")  # search no parent folder
    try:
        done = subprocess.run(("git", *repository, *_DESCRIBE), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
