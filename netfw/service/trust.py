# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Checks that only root, or the service's own user, can change a file that the service trusts."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def why_untrusted(file: Path) -> str:
    """Return why another user can change this file, or ""; includes its directory, where it could be replaced.

    Raises: OSError.
    """
    file = file.resolve(strict=True)
    for path in (file, file.parent):
        status = path.stat()
        if status.st_uid not in (0, os.geteuid()):
            return f"{path} belongs to user {status.st_uid}; it must belong to root, or to the service's user"
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            return f"{path} is writable by others than its owner; remove that with `chmod go-w {path}`"
    return ""
