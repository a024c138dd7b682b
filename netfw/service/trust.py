# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Whether only root, or the service's own user, can change a file that the service obeys."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def distrust(file: Path) -> str:
    """Why somebody else can change this file, or ""; its folder counts as well, as a file there can be replaced.

    Raises: OSError.
    """
    file = file.resolve(strict=True)
    for path in (file, file.parent):
        found = path.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{path} belongs to user {found.st_uid}; it must belong to root, or to the service's user"
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            return f"{path} can be written by others than its owner; take that away with `chmod go-w {path}`"
    return ""
