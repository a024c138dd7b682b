"""`hal.partition` as a block device.

Writes go through the page cache, which accepts any number of sectors, and `flush` is an fdatasync. Reads bypass the
page cache (O_DIRECT), so that a device that has not stored written data is detected: the kernel first writes back the
cached pages of the range. Where direct reads are impossible, for example in tmpfs of older kernels, reads are cached.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Final

from hal.disk import DiskError, DiskErrorKind
from hal.partition import SECTOR_BYTES

BLOCK_BYTES: Final = 4096
"""Direct reads are aligned to this, which every device accepts."""
READ_BYTES_MAX: Final = 1024 * 1024
_UNAVAILABLE: Final = frozenset((errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ENOMEDIUM))


class LinuxPartition:
    """The block device at `path`, such as /dev/disk/by-partlabel/root-a. Raises: DiskError if it cannot be opened."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._size = os.lseek(self._fd, 0, os.SEEK_END) // SECTOR_BYTES * SECTOR_BYTES
            self._direct_fd = self._open_direct()
        except OSError as error:
            raise self._error(error) from error
        self._buffer = memoryview(mmap.mmap(-1, READ_BYTES_MAX))

    def _open_direct(self) -> int | None:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return None

    def close(self) -> None:
        """Close the descriptors; the partition cannot be used afterwards."""
        for fd in (self._fd, self._direct_fd):
            if fd is not None:
                os.close(fd)

    @property
    def size(self) -> int:
        """See `Partition.size`."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """See `Partition.read`."""
        assert 0 <= offset <= offset + length <= self._size, (offset, length)
        parts, end = [], offset + length
        try:
            while offset < end:
                parts.append(part := self._read_some(offset, end))
                offset += len(part)
        except OSError as error:
            raise self._error(error) from error
        return b"".join(parts)

    def _read_some(self, offset: int, end: int) -> bytes:
        if self._direct_fd is None:
            data = os.pread(self._fd, end - offset, offset)
        else:
            start = offset // BLOCK_BYTES * BLOCK_BYTES
            length = min(-(-(end - start) // BLOCK_BYTES) * BLOCK_BYTES, READ_BYTES_MAX)
            count = os.preadv(self._direct_fd, [self._buffer[:length]], start)
            data = bytes(self._buffer[offset - start : min(count, end - start)])
        if not data:
            raise OSError(errno.EIO, f"nothing can be read at {offset}")
        return data

    def write(self, offset: int, data: bytes) -> None:
        """See `Partition.write`."""
        assert offset % SECTOR_BYTES == 0 == len(data) % SECTOR_BYTES, (offset, len(data))
        assert 0 <= offset <= offset + len(data) <= self._size, (offset, len(data))
        unwritten = memoryview(data)
        try:
            while unwritten:
                written = os.pwrite(self._fd, unwritten, offset)
                unwritten, offset = unwritten[written:], offset + written
        except OSError as error:
            raise self._error(error) from error

    def flush(self) -> None:
        """See `Partition.flush`."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> DiskError:
        kind = DiskErrorKind.UNAVAILABLE if error.errno in _UNAVAILABLE else DiskErrorKind.IO
        return DiskError(kind, f"{self._path}: {error.strerror or error}")
