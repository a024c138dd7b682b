"""A disk with a volatile write cache.

A write goes to the cache and reaches the medium with the next flush, with the write itself if that has FUA set (force
unit access), or when the cache is full. When the power is cut, each cached sector of 512 bytes is either on the
medium or not, independently of the others: a drive writes its cache in any order, and the cut may come at any time.
This is the contract of SATA, NVMe and virtio-blk disks with a write-back cache, and of the model in `hal.emul.disk`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

SECTOR: Final = 512
CACHE_BYTES_MAX: Final = 32 << 20
"""Maximum bytes in the cache; when it is exceeded, the disk writes the whole cache to the medium."""


@dataclass
class FailingRequests:
    """The number of further requests that fail, among those that access bytes in the range `affected`."""

    times: int = 0
    affected: range = range(0)

    def check(self, offset: int, length: int) -> None:
        """Count a request. Raises: OSError EIO, if it fails."""
        if self.times and offset < self.affected.stop and self.affected.start < offset + length:
            self.times -= 1
            raise OSError(errno.EIO, f"bytes {offset} to {offset + length} cannot be accessed")


class CachedDisk:
    """A disk whose medium is the open file `fd`. Offsets and lengths are multiples of the sector size."""

    def __init__(self, fd: int, now_ns: Callable[[], int], cache_bytes_max: int = CACHE_BYTES_MAX) -> None:
        self.size = os.fstat(fd).st_size // SECTOR * SECTOR
        self._fd, self._now_ns = fd, now_ns
        self._sectors_max = cache_bytes_max // SECTOR
        self._cache: dict[int, tuple[bytes, int]] = {}
        self.holds_ns = 0
        """A flush leaves data in the cache that was written less than this time ago: the disk lies about flushes."""
        self.is_read_only = False
        self.failing_flushes = 0
        """How many more flushes fail."""
        self.failing_reads, self.failing_writes = FailingRequests(), FailingRequests()

    @property
    def cached_bytes(self) -> int:
        """The number of bytes that a power cut may lose."""
        return len(self._cache) * SECTOR

    def read(self, offset: int, length: int) -> bytes:
        """Read the current data. Raises: OSError."""
        self._check(offset, length)
        self.failing_reads.check(offset, length)
        stored = os.pread(self._fd, length, offset)
        if not self._cache:
            return stored
        data = bytearray(stored)
        first = offset // SECTOR
        for index in range(length // SECTOR):
            if cached := self._cache.get(first + index):
                data[index * SECTOR : (index + 1) * SECTOR] = cached[0]
        return bytes(data)

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        """Write to the cache, and with `fua` also to the medium. Raises: OSError."""
        self._check(offset, len(data))
        if self.is_read_only:
            raise OSError(errno.EPERM, "the disk is read-only")
        self.failing_writes.check(offset, len(data))
        now, first = self._now_ns(), offset // SECTOR
        for index, sector in enumerate(_sectors(data)):
            self._cache[first + index] = sector, now
        if fua and not self.holds_ns:
            self._destage({first + index for index in range(len(data) // SECTOR)})
        if len(self._cache) > self._sectors_max:
            self._destage(set(self._cache))

    def flush(self) -> None:
        """Write the cache to the medium. Raises: OSError; the cache is then unchanged."""
        if self.failing_flushes:
            self.failing_flushes -= 1
            raise OSError(errno.EIO, "the flush failed")
        cutoff_ns = self._now_ns() - self.holds_ns
        self._destage({number for number, (_, at) in self._cache.items() if at <= cutoff_ns})

    def tear(self, offset: int, data: bytes, random: Random) -> None:
        """Write the part of `data` that is on the medium after a power cut during the write: random sectors."""
        self._check(offset, len(data))
        for index, sector in enumerate(_sectors(data)):
            if random.getrandbits(1):
                os.pwrite(self._fd, sector, offset + index * SECTOR)

    def cut_power(self, random: Random) -> tuple[int, int]:
        """Empty the cache and end all failures, as a power cut does; return the numbers of sectors kept and lost."""
        self.failing_flushes = self.failing_reads.times = self.failing_writes.times = 0
        kept = {number for number in sorted(self._cache) if random.getrandbits(1)}
        lost = len(self._cache) - len(kept)
        self._destage(kept)
        self._cache.clear()
        return len(kept), lost

    def _check(self, offset: int, length: int) -> None:
        if offset % SECTOR or length % SECTOR or offset + length > self.size:
            raise OSError(errno.EINVAL, "the request exceeds the disk or does not consist of whole sectors")

    def _destage(self, numbers: set[int]) -> None:
        for first, data in _runs(sorted(numbers), self._cache):
            os.pwrite(self._fd, data, first * SECTOR)
        for number in numbers:
            del self._cache[number]


def _sectors(data: bytes) -> Iterator[bytes]:
    return (data[offset : offset + SECTOR] for offset in range(0, len(data), SECTOR))


def _runs(numbers: list[int], cache: dict[int, tuple[bytes, int]]) -> Iterator[tuple[int, bytes]]:
    """Group adjacent sectors; yield the number of the first and the data of all."""
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            run = numbers[start:index]
            yield run[0], b"".join(cache[number][0] for number in run)
            start = index
