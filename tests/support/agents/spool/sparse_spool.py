"""Large spools of sparse files: written by the spool itself, with few records in each segment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from agents.spool import SpoolLimits
from hal.disk import Disk
from hal.linux.disk import LinuxDisk
from tests.support.agents.spool.model import encode_gap
from tests.support.agents.spool.open_spool import InspectedSpool

HOLE_BYTES: Final = 4096


class SparseDisk(LinuxDisk):
    """A disk for creating large spools quickly: files are sparse, zeros remain holes, and flushes are omitted."""

    @staticmethod
    def _fill_with_zeros(fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def _rename(self, name: str, new_name: str) -> None:
        os.rename(name, new_name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)

    def commit(self, name: str, offset: int, data: bytes) -> None:
        """See `Disk.commit`, without durability. Blocks of zeros are not written, so do not overwrite files."""
        fd = self._fds[name]
        zeros = bytes(HOLE_BYTES)
        start = 0
        while start < len(data):
            stop = start + HOLE_BYTES - (offset + start) % HOLE_BYTES
            if data[start:stop] != zeros:
                os.pwrite(fd, data[start:stop], offset + start)
            start = stop


def open_sparse(disk: Disk, limits: SpoolLimits) -> InspectedSpool:
    return InspectedSpool.open(disk, limits, random=Random(1), encode_gap=encode_gap)


def make_sparse_spool(
    directory: Path, limits: SpoolLimits, segments: int, groups: Sequence[tuple[bytes, Sequence[bytes]]]
) -> None:
    """Write and close a spool of `segments` segments, each with these groups (priorities, payloads)."""
    disk = SparseDisk(directory)
    try:
        spool = open_sparse(disk, limits)
        for _ in range(segments):
            spool.begin_segment()  # the next group begins a new segment
            for priorities, payloads in groups:
                spool.append(priorities, payloads)
        spool.close()
    finally:
        disk.close()


class CountingDisk(LinuxDisk):
    """A disk that counts its reads and the bytes read."""

    reads = bytes_read = 0

    def read(self, name: str, offset: int, length: int) -> bytes:
        self.reads += 1
        self.bytes_read += length
        return super().read(name, offset, length)
