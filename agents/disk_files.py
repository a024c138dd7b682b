"""Atomic replacement of a small file on the box's disk."""

from __future__ import annotations

from hal.disk import Disk


def replace_file(disk: Disk, name: str, data: bytes, part: str) -> None:
    """Write `data` to file `part`, and rename it to `name`; durable on return.

    After a power cut at any moment, `name` is either the previous or the new file. Raises: DiskError.
    """
    disk.create(part, len(data))
    disk.commit(part, 0, data)
    disk.rename(part, name)
