"""Recognizing segments that a newer program wrote, so that an older one leaves them alone.

A program that cannot read the newest segments of an epoch does not know which numbers were given out in it. It must
not go on in that epoch, nor use its files: it begins an epoch of its own, and the program that wrote the other one
finds it as it was.

The rule for later formats: the first three bytes of `MAGIC`, epoch and generation stay where they are at the
beginning of a segment, the fourth byte of `MAGIC` is the format, and names begin with epoch and generation. What is
written in another format begins in a segment of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agents.spool.disk.group import MAGIC, PREFIX
from agents.spool.disk.segment import parse_name, read_salvaging
from hal.disk import Disk, DiskError, DiskErrorKind

_LIKE_A_SEGMENT = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-[0-9a-f.-]+\.seg")
_LOOKED_AT = 2  # the newest may have been renamed, and nothing written to it yet


def like_a_segment(name: str) -> bool:
    """Whether the file is a segment, of whichever format."""
    return _LIKE_A_SEGMENT.fullmatch(name) is not None


def foreign_epochs(disk: Disk, names: Iterable[str]) -> set[int]:
    """The epochs whose newest segments have another format, by name or by content. Errors: DiskError GONE."""
    by_epoch: dict[int, list[tuple[int, str]]] = {}
    for name in names:
        if match := _LIKE_A_SEGMENT.fullmatch(name):
            by_epoch.setdefault(int(match[1], 16), []).append((int(match[2], 16), name))
    return {
        epoch
        for epoch, segments in by_epoch.items()
        if any(_is_foreign(disk, epoch, *segment) for segment in sorted(segments)[-_LOOKED_AT:])
    }


def _is_foreign(disk: Disk, epoch: int, generation: int, name: str) -> bool:
    if parse_name(name) is None:
        return True
    try:
        has_content = disk.size(name) >= PREFIX.size
    except DiskError as error:
        if error.kind is DiskErrorKind.GONE:
            raise
        return False
    start = read_salvaging(disk, name, 0, PREFIX.size) if has_content else b""
    ours = PREFIX.pack(MAGIC, epoch, generation)
    return start != ours and start[:3] == ours[:3] and start[4:] == ours[4:]
