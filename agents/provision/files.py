"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_file(path: Path, data: bytes, mode: int) -> bool:
    """Have this file hold this, flushed to the disk; tells whether it did not before. Raises: OSError.

    A file of another mode is written anew too: its group is then that of its folder.
    """
    was_right = path.is_file() and path.read_bytes() == data
    if was_right and path.stat().st_mode & 0o777 == mode:
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
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)  # the new name is on the disk, too
    os.close(folder)
    return not was_right
