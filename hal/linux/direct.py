"""Writing past the page cache (O_DIRECT), durable on return, where system and device can.

Against a write through the cache the device gets the sectors that were written instead of whole pages, no page is
looked up and locked, and what the device refused does not stay readable as if it had it. The memory that is written
has to be aligned, hence one block that everything is copied through; offset and length too, to the device's sectors
(mostly 512 bytes): where they are not, the writer says that it cannot. Reads through the cache see what was written:
the kernel drops the pages that it replaces.
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
    """Writes to files of one directory; the last DESCRIPTORS_MAX files stay open until `close`."""

    def __init__(self, directory_fd: int) -> None:
        self._directory_fd = directory_fd
        self._memory = memoryview(mmap.mmap(-1, WRITE_BYTES_MAX))
        self._fds: dict[str, int] = {}
        self._works = True  # until the file system or the device says that it does not

    def write(self, name: str, offset: int, data: bytes) -> int:
        """How many bytes are now durable at `offset`; 0 if it has to be done otherwise. Raises: OSError."""
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
        """File `name` has another name now."""
        if name != new_name:
            self.forget(new_name)
            if name in self._fds:
                self._fds[new_name] = self._fds.pop(name)

    def forget(self, name: str) -> None:
        """There is no such file any more, or another one."""
        fd = self._fds.pop(name, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close all descriptors."""
        for name in list(self._fds):
            self.forget(name)
