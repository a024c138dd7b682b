"""Detecting segments that a newer program wrote, so that this program does not touch them.

A program that cannot read the newest segments of an epoch does not know which numbers were assigned in it. It must
neither continue that epoch nor reuse its files. It begins a new epoch, and the newer program later finds its own
files unchanged.

Rules for later formats: a segment begins with the first three bytes of `MAGIC`, one byte for the format, epoch and
generation, and its name begins with epoch and generation. A change of format begins in a new segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agents.spool.disk.group import MAGIC, PREFIX
from agents.spool.disk.segment import parse_name, read_salvaging
from hal.disk import Disk, DiskError, DiskErrorKind

_SEGMENT_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-[0-9a-f.-]+\.seg")
_NEWEST_EXAMINED = 2  # the newest segment may have been renamed without being written yet


def is_segment_name(name: str) -> bool:
    """Return whether the file name is that of a segment, in this or a later format."""
    return _SEGMENT_NAME.fullmatch(name) is not None


def foreign_epochs(disk: Disk, names: Iterable[str]) -> set[int]:
    """Return the epochs whose newest segments have an unknown format. Raises: DiskError UNAVAILABLE."""
    by_epoch: dict[int, list[tuple[int, str]]] = {}
    for name in names:
        if match := _SEGMENT_NAME.fullmatch(name):
            by_epoch.setdefault(int(match[1], 16), []).append((int(match[2], 16), name))
    return {
        epoch
        for epoch, segments in by_epoch.items()
        if any(_is_foreign(disk, epoch, *segment) for segment in sorted(segments)[-_NEWEST_EXAMINED:])
    }


def _is_foreign(disk: Disk, epoch: int, generation: int, name: str) -> bool:
    if parse_name(name) is None:
        return True
    try:
        has_content = disk.size(name) >= PREFIX.size
    except DiskError as error:
        if error.kind is DiskErrorKind.UNAVAILABLE:
            raise
        return False
    start = read_salvaging(disk, name, 0, PREFIX.size) if has_content else b""
    ours = PREFIX.pack(MAGIC, epoch, generation)
    return start != ours and start[:3] == ours[:3] and start[4:] == ours[4:]
