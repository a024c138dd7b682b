"""Atomic file writes."""

from __future__ import annotations

import os
from pathlib import Path

from wire.process.folders import sync_folder


def write_file(path: Path, data: bytes, mode: int) -> bool:
    """Write a file atomically and flush it; return whether its content changed. Raises: OSError.

    A file with the same content but another mode is written again, so that it gets the group of the directory.
    """
    is_unchanged = path.is_file() and path.read_bytes() == data
    if is_unchanged and path.stat().st_mode & 0o777 == mode:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(0o600)
    with part.open("wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)  # makes the rename durable
    return not is_unchanged
