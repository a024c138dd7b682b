"""Replacing a small file of the box's disk as a whole."""

from __future__ import annotations

from hal.disk import Disk


def replace_file(disk: Disk, name: str, data: bytes, part: str) -> None:
    """Let file `name` have this content, by writing it to file `part` before; durable on return.

    After a power cut at any moment, the file is either the previous or the new one. Raises: DiskError.
    """
    disk.create(part, len(data))
    disk.commit(part, 0, data)
    disk.rename(part, name)
