"""Direct I/O (O_DIRECT): durable writes that bypass the page cache, where file system and device support them.

Compared with cached writes, the device receives only the written sectors instead of whole pages, no page is looked up
or locked, and data that the device refused does not remain readable from the cache. Memory, offset and length must be
aligned to the device's sectors (usually 512 bytes): data is copied through one aligned buffer, and
`DirectWriter.write` returns 0 for an unaligned offset or length. Cached reads return the written data, because the
kernel invalidates the replaced pages.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import Final

ALIGNMENT_BYTES: Final = 512
WRITE_BYTES_MAX: Final = 1024 * 1024
DESCRIPTORS_MAX: Final = 8


class DirectWriter:
    """Direct writes to files of one directory; the last DESCRIPTORS_MAX files stay open until `close`."""

    def __init__(self, directory_fd: int) -> None:
        self._directory_fd = directory_fd
        self._memory = memoryview(mmap.mmap(-1, WRITE_BYTES_MAX))
        self._fds: dict[str, int] = {}
        self._works = True  # until the file system or the device rejects direct I/O

    def write(self, name: str, offset: int, data: bytes) -> int:
        """Write `data` and return how many bytes are durable; 0 if direct I/O is not possible. Raises: OSError."""
        size = len(data)
        if not self._works or (offset | size) % ALIGNMENT_BYTES or size > WRITE_BYTES_MAX:
            return 0
        fd = self._fds.get(name)
        try:
            if fd is None:
                while len(self._fds) >= DESCRIPTORS_MAX:
                    self.forget(next(iter(self._fds)))
                flags = os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC
                fd = self._fds[name] = os.open(name, flags, dir_fd=self._directory_fd)
            self._memory[:size] = data
            return os.pwritev(fd, (self._memory[:size],), offset, os.RWF_DSYNC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._works = False
            return 0

    def rename(self, name: str, new_name: str) -> None:
        """Follow a rename of file `name`."""
        if name != new_name:
            self.forget(new_name)
            if name in self._fds:
                self._fds[new_name] = self._fds.pop(name)

    def forget(self, name: str) -> None:
        """Drop the descriptor of a file that was removed or replaced."""
        fd = self._fds.pop(name, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close all descriptors."""
        for name in list(self._fds):
            self.forget(name)
