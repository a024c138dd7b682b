"""What is written to: a block device past the page cache, so that what is read back comes from the device.

With O_DIRECT the kernel moves data between the device and the caller's memory, which must begin at a page and be
whole blocks; `buffer` gives such memory. O_EXCL makes the kernel refuse a device of which it uses a part itself
(mounted anywhere, in any namespace, or beneath RAID, LVM, LUKS or swap): the last guard, and one without a race.
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
    """The device failed, or is not there any more; the message names it. What it holds is unknown."""


class DeviceRefused(Exception):
    """The device cannot be opened for this; nothing was changed on it."""


class FlashTarget(Protocol):
    """A disk of `size` bytes. Offsets and lengths are whole sectors of 512 bytes. Calls come from several threads."""

    size: int

    def read(self, offset: int, into: memoryview) -> None:
        """Fill `into` with what the device holds there. Errors: DeviceError."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """On return `read` gives this; after a power cut each sector may be old or new. Errors: DeviceError."""
        ...

    def flush(self) -> None:
        """On return all that was written is durable. Errors: DeviceError."""
        ...


def buffer(size: int = CELL_BYTES) -> memoryview:
    """Memory for reads and writes, beginning at a page."""
    return memoryview(mmap.mmap(-1, size))


def aligned(data: bytes) -> memoryview:
    """A copy of `data` that can be written."""
    copy = buffer(len(data))
    copy[:] = data
    return copy


def read(target: FlashTarget, offset: int, length: int) -> bytes:
    """Bytes that need not be whole sectors. Errors: DeviceError."""
    start = offset // 512 * 512
    into = buffer(-(-(offset + length) // 512) * 512 - start)
    target.read(start, into)
    return bytes(into[offset - start : offset - start + length])


class BlockDevice:
    """A block device, by O_DIRECT. Opening raises DeviceRefused."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_EXCL if write else os.O_RDONLY
        try:
            if not stat.S_ISBLK(path.stat().st_mode):
                raise DeviceRefused(f"{path} is not a disk; `rap flash list` shows those there are")
            self._fd = os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            raise DeviceRefused(f"{path}: {_why_not(error)}") from None
        size = fcntl.ioctl(self._fd, _BLKGETSIZE64, bytes(8))
        self.size: int = struct.unpack("=Q", size)[0]

    def read(self, offset: int, into: memoryview) -> None:
        self._whole("read", offset, into, lambda at, part: os.preadv(self._fd, [part], at))

    def write(self, offset: int, data: memoryview) -> None:
        self._whole("written", offset, data, lambda at, part: os.pwrite(self._fd, part, at))

    def flush(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._failed("flushed", 0, str(error.strerror)) from None

    def close(self) -> None:
        """Have the kernel look for partitions anew, and let go of the device."""
        with suppress(OSError):  # a loop device without partition scan has none to look for
            fcntl.ioctl(self._fd, _BLKRRPART)
        os.close(self._fd)

    def _whole(self, what: str, offset: int, data: memoryview, move: _Move) -> None:
        done = 0
        while done < len(data):
            try:
                moved = move(offset + done, data[done:])
            except OSError as error:
                raise self._failed(what, offset + done, str(error.strerror)) from None
            if not moved:
                raise self._failed(what, offset + done, "it ends before")
            done += moved

    def _failed(self, what: str, offset: int, why: str) -> DeviceError:
        return DeviceError(f"{self._path}: byte {offset} cannot be {what}: {why}")


class _Move(Protocol):
    def __call__(self, at: int, part: memoryview, /) -> int: ...


def _why_not(error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return "the kernel uses it (mounted, or beneath RAID, LVM, LUKS or swap): free it first"
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENOMEDIUM):
        return "there is no such disk, or nothing in its slot; `rap flash list` shows those there are"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission; run this as root"
    return f"cannot be opened: {error.strerror}"
