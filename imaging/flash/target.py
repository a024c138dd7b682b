"""The disk to write: a block device accessed without the page cache, so that data is read back from the device.

With O_DIRECT the kernel transfers data between the device and the caller's memory, which must be page-aligned and a
multiple of the block size; `buffer` allocates such memory. With O_EXCL the kernel refuses a device that is in use
(mounted in any namespace, or used by RAID, LVM, LUKS or swap). This last check has no race condition.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from imaging.media.bmap import CELL_BYTES

_BLKRRPART: Final = 0x125F  # linux/fs.h
_BLKGETSIZE64: Final = 0x80081272


class DeviceError(Exception):
    """The device failed or was removed; the message names it. Its content is undefined."""


class DeviceRefused(Exception):
    """The device cannot be opened for writing; nothing was changed on it."""


class FlashTarget(Protocol):
    """A disk of `size` bytes. Offsets and lengths are whole sectors of 512 bytes. Calls come from several threads."""

    size: int

    def read(self, offset: int, into: memoryview) -> None:
        """Read the device at `offset` into `into`. Raises: DeviceError."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """Write at `offset`.

        On return, `read` returns the written data; after a power cut each sector may be old or new.

        Raises: DeviceError.
        """
        ...

    def flush(self) -> None:
        """Make everything that was written durable. Raises: DeviceError."""
        ...


def buffer(size: int = CELL_BYTES) -> memoryview:
    """Return page-aligned memory for reads and writes; `size` is in bytes."""
    return memoryview(mmap.mmap(-1, size))


def aligned(data: bytes) -> memoryview:
    """Return a page-aligned copy of `data`."""
    copy = buffer(len(data))
    copy[:] = data
    return copy


def read(target: FlashTarget, offset: int, length: int) -> bytes:
    """Read bytes at any offset and of any length. Raises: DeviceError."""
    start = offset // 512 * 512
    into = buffer(-(-(offset + length) // 512) * 512 - start)
    target.read(start, into)
    return bytes(into[offset - start : offset - start + length])


class BlockDevice:
    """A block device opened with O_DIRECT. Raises: DeviceRefused, if it cannot be opened."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_EXCL if write else os.O_RDONLY
        try:
            if not stat.S_ISBLK(path.stat().st_mode):
                raise DeviceRefused(f"{path} is not a disk; `rap flash list` shows the disks")
            self._fd = os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            raise DeviceRefused(f"{path}: {_why_not(error)}") from None
        size = fcntl.ioctl(self._fd, _BLKGETSIZE64, bytes(8))
        self.size: int = struct.unpack("=Q", size)[0]

    def read(self, offset: int, into: memoryview) -> None:
        self._transfer("read", offset, into, lambda at, part: os.preadv(self._fd, [part], at))

    def write(self, offset: int, data: memoryview) -> None:
        self._transfer("written", offset, data, lambda at, part: os.pwrite(self._fd, part, at))

    def flush(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise DeviceError(f"{self._path}: cannot be flushed: {error.strerror}") from None

    def close(self) -> None:
        """Make the kernel read the partition table again, and close the device."""
        with suppress(OSError):  # a loop device without partition scan does not support it
            fcntl.ioctl(self._fd, _BLKRRPART)
        os.close(self._fd)

    def _transfer(self, what: str, offset: int, data: memoryview, move: _Move) -> None:
        done = 0
        while done < len(data):
            try:
                moved = move(offset + done, data[done:])
            except OSError as error:
                raise self._failed(what, offset + done, str(error.strerror)) from None
            if not moved:
                raise self._failed(what, offset + done, "the device ends before it")
            done += moved

    def _failed(self, what: str, offset: int, why: str) -> DeviceError:
        return DeviceError(f"{self._path}: byte {offset} cannot be {what}: {why}")


class _Move(Protocol):
    def __call__(self, at: int, part: memoryview, /) -> int: ...


def _why_not(error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return "it is in use (mounted, or part of RAID, LVM, LUKS or swap): unmount it or stop that first"
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENOMEDIUM):
        return "there is no such disk, or no medium in its slot; `rap flash list` shows the disks"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission; run this as root"
    return f"cannot be opened: {error.strerror}"
