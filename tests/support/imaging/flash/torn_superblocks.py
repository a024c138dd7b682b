"""Superblocks of ext4 that a power cut may tear: those that were written to the disk but not flushed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from imaging.flash import gpt
from imaging.flash.identifiers import SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET
from imaging.kickstart.data import MIB
from sim.worlds.image.disk.cache import SECTOR
from sim.worlds.image.disk.nbd import FLUSH, DiskRequest
from sim.worlds.image.disk.recording import RecordedRequest

_MAGIC, _MAGIC_OFFSET = b"\x53\xef", 0x38


class UnflushedSuperblock(NamedTuple):
    """A superblock in the partition `label`, at byte `offset` of the disk: as flushed, and as last written."""

    label: str
    offset: int
    old: bytes
    new: bytes

    def tear(self, disk: Path, half: int) -> None:
        """Write a torn superblock: its sector `half` (0 or 1) is that of `new`, the other one that of `old`."""
        first, second = (self.old, self.new) if half else (self.new, self.old)
        with disk.open("r+b") as file:
            os.pwrite(file.fileno(), first[:SECTOR] + second[SECTOR:], self.offset)


def unflushed_superblocks(
    before: Path, labels: Mapping[int, str], requests: Sequence[RecordedRequest]
) -> Iterator[list[UnflushedSuperblock]]:
    """Yield for each request the superblocks that a power cut during it may tear.

    `before` is the disk before the first request; `labels` has the partition's label by the superblock's offset.
    """
    with before.open("rb") as file:
        flushed = {at: os.pread(file.fileno(), SUPERBLOCK_BYTES, at) for at in labels}
    written: dict[int, bytes] = {}
    for _, request in requests:
        new = {at: data for at in flushed if (data := _superblock(request, at))}
        yield [
            UnflushedSuperblock(labels[at], at, flushed[at], data)
            for at, data in (written | new).items()
            if data != flushed[at]
        ]
        written |= new
        if request.kind == FLUSH:
            flushed |= written
            written = {}
        elif request.fua:
            flushed |= new
            written = {at: data for at, data in written.items() if at not in new}


def superblocks(disk: Path) -> dict[int, str]:
    """Return the labels of the ext4 partitions, by the offsets of their superblocks."""
    with disk.open("rb") as file:
        labels = {part.offset + SUPERBLOCK_OFFSET: part.label for part in gpt.slices(file.read(MIB))}
        return {
            at: label
            for at, label in labels.items()
            if os.pread(file.fileno(), len(_MAGIC), at + _MAGIC_OFFSET) == _MAGIC
        }


def _superblock(request: DiskRequest, offset: int) -> bytes:
    """Return the superblock at `offset` if the request writes it, else no bytes."""
    start = offset - request.offset
    return request.data[start : start + SUPERBLOCK_BYTES] if 0 <= start < len(request.data) else b""
