"""`hal.disk` as a directory of preallocated files.

Files are zero-filled because `posix_fallocate` only reserves blocks: the first write into them would convert
"unwritten" extents, which is a metadata change, so that each flush would commit the file system's journal. In a
zero-filled file a flush is one write and one cache flush of the device, done in one system call (`direct`). A file's
name becomes durable by an fsync of its directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Final

from hal.disk import DiskError, DiskErrorKind
from hal.linux.direct import DirectWriter

_ZEROS = bytes(1024 * 1024)
_NAME = re.compile(r"[a-z0-9.-]{1,64}")
_UNFINISHED_SUFFIX = "~"  # invalid in callers' names; marks a file left by a crash during `create`
DESCRIPTORS_MAX: Final = 64  # open files; systemd's usual limit for a service is 1,024
_NOT_WRITABLE = frozenset((errno.EROFS, errno.EACCES, errno.EPERM))
_KINDS = {
    errno.ENOSPC: DiskErrorKind.FULL,
    errno.EDQUOT: DiskErrorKind.FULL,
    errno.EFBIG: DiskErrorKind.FULL,
    errno.ENOENT: DiskErrorKind.MISSING,
    errno.ENODEV: DiskErrorKind.UNAVAILABLE,
    errno.ENXIO: DiskErrorKind.UNAVAILABLE,
    errno.ESHUTDOWN: DiskErrorKind.UNAVAILABLE,
}


def _disk_error(error: OSError, name: str) -> DiskError:
    kind = _KINDS.get(error.errno or 0, DiskErrorKind.IO)
    return DiskError(kind, f"{name}: {error.strerror or error}")


class _Descriptors(dict[str, int]):
    """File descriptors by name, opened on first use; beyond DESCRIPTORS_MAX the oldest is closed.

    On a read-only file system, files are opened for reading. Raises: DiskError.
    """

    def __init__(self, directory_fd: int) -> None:
        self._directory_fd = directory_fd
        self._for_reading: set[int] = set()

    def for_writing(self, name: str) -> int:
        """Return a writable descriptor; reopens a file that could only be opened for reading."""
        if self[name] in self._for_reading:
            self.close(name)
            if self[name] in self._for_reading:
                raise _disk_error(OSError(errno.EROFS, os.strerror(errno.EROFS)), name)
        return self[name]

    def close(self, name: str) -> None:
        """Close a file's descriptor if it is open."""
        fd = self.pop(name, None)
        if fd is not None:
            self._for_reading.discard(fd)
            os.close(fd)

    def __missing__(self, name: str) -> int:
        try:
            fd = self._open(name)
        except OSError as error:
            raise _disk_error(error, name) from error
        self.keep(name, fd)
        return fd

    def keep(self, name: str, fd: int) -> None:
        """Add an open descriptor."""
        while len(self) >= DESCRIPTORS_MAX:
            self.close(next(iter(self)))
        self[name] = fd

    def _open(self, name: str) -> int:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(name, os.O_RDWR | flags, dir_fd=self._directory_fd)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            fd = os.open(name, os.O_RDONLY | flags, dir_fd=self._directory_fd)
            self._for_reading.add(fd)
            return fd


class LinuxDisk:
    """`hal.disk.Disk` in `directory`, which is created if necessary; a read-only directory can be read."""

    def __init__(self, directory: Path | str) -> None:
        self._path = Path(directory)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._directory_fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with os.scandir(self._directory_fd) as entries:
                unfinished = [entry.name for entry in entries if entry.name.endswith(_UNFINISHED_SUFFIX)]
        except OSError as error:
            raise _disk_error(error, str(directory)) from error
        for name in unfinished:
            with contextlib.suppress(OSError):  # a read-only file system can still be read
                os.unlink(name, dir_fd=self._directory_fd)
        self._fds = _Descriptors(self._directory_fd)
        self._direct = DirectWriter(self._directory_fd)

    def close(self) -> None:
        """Close all file descriptors; the disk cannot be used afterwards."""
        self._direct.close()
        for fd in (*self._fds.values(), self._directory_fd):
            os.close(fd)
        self._fds.clear()

    def names(self) -> list[str]:
        """See `Disk.names`."""
        try:
            with os.scandir(self._directory_fd) as entries:
                return sorted(
                    e.name for e in entries if _NAME.fullmatch(e.name) and e.is_file(follow_symlinks=False)
                )
        except OSError as error:
            raise _disk_error(error, str(self._path)) from error

    def size(self, name: str) -> int:
        """See `Disk.size`."""
        try:
            return os.stat(name, dir_fd=self._directory_fd, follow_symlinks=False).st_size
        except OSError as error:
            raise _disk_error(error, name) from error

    def create(self, name: str, size: int) -> None:
        """See `Disk.create`."""
        assert _NAME.fullmatch(name) and size >= 0, (name, size)
        unfinished = name + _UNFINISHED_SUFFIX
        try:
            fd = os.open(
                unfinished,
                os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
                0o600,
                dir_fd=self._directory_fd,
            )
            try:
                self._fill_with_zeros(fd, size)
                self._rename(unfinished, name)
            except OSError:
                os.close(fd)
                with contextlib.suppress(OSError):
                    os.unlink(unfinished, dir_fd=self._directory_fd)
                raise
        except OSError as error:
            raise _disk_error(error, name) from error
        self._forget(name)
        self._fds.keep(name, fd)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Disk.read`."""
        fd = self._fds[name]
        try:
            data = os.pread(fd, length, offset)
        except OSError as error:
            raise _disk_error(error, name) from error
        if len(data) != length:
            raise DiskError(DiskErrorKind.IO, f"{name}: {len(data)} of {length} bytes at {offset}")
        return data

    def write(self, name: str, offset: int, data: bytes) -> None:
        """See `Disk.write`."""
        fd = self._fds.for_writing(name)
        try:
            written = os.pwrite(fd, data, offset)
        except OSError as error:
            raise _disk_error(error, name) from error
        if written != len(data):
            raise DiskError(DiskErrorKind.IO, f"{name}: wrote {written} of {len(data)} bytes at {offset}")

    def flush(self, name: str) -> None:
        """See `Disk.flush`."""
        fd = self._fds[name]
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise _disk_error(error, name) from error

    def commit(self, name: str, offset: int, data: bytes) -> None:
        """See `Disk.commit`. One system call: between two calls, the interpreter could switch to another thread."""
        try:
            written = self._direct.write(name, offset, data)
            if not written:
                written = os.pwritev(self._fds.for_writing(name), (data,), offset, os.RWF_DSYNC)
        except OSError as error:
            raise _disk_error(error, name) from error
        if written != len(data):
            raise DiskError(DiskErrorKind.IO, f"{name}: wrote {written} of {len(data)} bytes at {offset}")

    def rename(self, name: str, new_name: str) -> None:
        """See `Disk.rename`."""
        assert _NAME.fullmatch(new_name), new_name
        try:
            self._rename(name, new_name)
        except OSError as error:
            raise _disk_error(error, name) from error
        if name != new_name:
            self._direct.rename(name, new_name)
            self._close(new_name)
            if name in self._fds:
                self._fds[new_name] = self._fds.pop(name)

    def remove(self, name: str) -> None:
        """See `Disk.remove`."""
        try:
            os.unlink(name, dir_fd=self._directory_fd)
            os.fsync(self._directory_fd)
        except OSError as error:
            raise _disk_error(error, name) from error
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._direct.forget(name)
        self._close(name)

    def _close(self, name: str) -> None:
        self._fds.close(name)

    def _rename(self, name: str, new_name: str) -> None:
        """Rename durably; after an error, including an error of the directory's fsync, the file has its old name."""
        here = self._directory_fd
        os.rename(name, new_name, src_dir_fd=here, dst_dir_fd=here)
        try:
            os.fsync(here)
        except OSError:
            with contextlib.suppress(OSError):
                os.rename(new_name, name, src_dir_fd=here, dst_dir_fd=here)
            raise

    @staticmethod
    def _fill_with_zeros(fd: int, size: int) -> None:
        if size:
            # fails immediately if the disk is full, not after writing most of the file
            os.posix_fallocate(fd, 0, size)
        for offset in range(0, size, len(_ZEROS)):
            os.pwrite(fd, _ZEROS[: size - offset], offset)
        os.fsync(fd)
