"""Disk image files: the mapped extents of a sparse image, and images compressed with zstd.

A compressed image is usually one long stream, whose holes must be decompressed, too. Here each mapped range is a
separate zstd frame, each hole is one or more frames of zeros, and the file ends with the table of zstd's seekable
format (contrib/seekable_format in its sources: a skippable frame, 0x184D2A5E, with both lengths of each frame, and a
footer with 0x8F92EAB1). `zstd -d` restores the raw image; a program that reads the table decompresses only the mapped
ranges, several in parallel. The same image and map always give the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from imaging.media.bmap import BLOCK_BYTES, CELL_BYTES, Bmap, MappedRange
from imaging.media.unzstd import FrameError, LengthMismatch, decompress_into

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL: Final = 9
"""The compression level. A higher one saves less than one percent of a system's files."""
HOLE_BYTES_MAX: Final = 64 * 1024 * 1024
"""The longest frame of zeros, which bounds the memory of readers that do not use the table."""
_SKIPPABLE: Final = 0x184D2A5E
_SEEKABLE: Final = 0x8F92EAB1
_ENTRY: Final = struct.Struct("<II")
_FOOTER: Final = struct.Struct("<IBI")


class ImageError(Exception):
    """The file is not a usable image; the message states why."""


class FramePosition(NamedTuple):
    """The position of a frame in the file, and the bytes of the image that it contains."""

    file_offset: int
    file_bytes: int
    offset: int
    length: int


def mapped_extents(file: Path) -> list[tuple[int, int]]:
    """Return the allocated extents of a sparse file (offset, length) in whole blocks of 4 KiB. Raises: OSError."""
    with file.open("rb") as image:
        os.fsync(image.fileno())  # delayed allocation: extents are final only after a flush
        size = os.fstat(image.fileno()).st_size
        extents: list[tuple[int, int]] = []
        for start, end in _data(image.fileno(), size):
            first = start // BLOCK_BYTES * BLOCK_BYTES
            last = min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, size)
            if extents and extents[-1][0] + extents[-1][1] >= first:
                first = extents.pop()[0]
            extents.append((first, last - first))
        return extents


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole until the end
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Holes are hashed as zeros without being read. Raises: OSError."""
    digest = hashlib.sha256()
    zeros = memoryview(bytes(CELL_BYTES))
    with file.open("rb") as image:
        end = 0
        for offset, length in [*mapped_extents(file), (os.fstat(image.fileno()).st_size, 0)]:
            for _, size in _cells(end, offset - end):
                digest.update(zeros[:size])
            for start, size in _cells(offset, length):
                digest.update(os.pread(image.fileno(), size, start))
            end = offset + length
    return digest.hexdigest()


def copy_mapped(source: Path, target: Path) -> None:
    """Copy a sparse file with exactly the same holes; `cp` would also turn zeros into holes. Raises: OSError."""
    with source.open("rb") as read, target.open("wb") as write:
        os.truncate(write.fileno(), os.fstat(read.fileno()).st_size)
        for offset, length in mapped_extents(source):
            at, end = offset, offset + length
            os.lseek(write.fileno(), at, os.SEEK_SET)
            while at < end:  # copy_file_range(2) can refuse files on two file systems
                at += os.sendfile(write.fileno(), read.fileno(), at, end - at)


def make_bmap(file: Path) -> Bmap:
    """Make the block map of a sparse raw image. Raises: OSError."""
    with file.open("rb") as image, ThreadPoolExecutor(os.cpu_count()) as pool:
        fd = image.fileno()
        cells = [cell for extent in mapped_extents(file) for cell in _cells(*extent)]
        hashes = pool.map(lambda cell: hashlib.sha256(os.pread(fd, cell[1], cell[0])).digest(), cells)
        ranges = tuple(MappedRange(*cell, sha256) for cell, sha256 in zip(cells, hashes, strict=True))
        return Bmap(os.fstat(fd).st_size, ranges)


def _cells(offset: int, length: int) -> Iterator[tuple[int, int]]:
    end = offset + length
    while offset < end:
        size = min(end, (offset // CELL_BYTES + 1) * CELL_BYTES) - offset
        yield offset, size
        offset += size


def compress_framed(raw: Path, bmap: Bmap, target: Path) -> None:
    """Compress `raw` into `target`, which must not exist. Raises: OSError."""
    with raw.open("rb") as source, target.open("xb") as out, ThreadPoolExecutor(os.cpu_count()) as pool:
        fd = source.fileno()
        table = bytearray()
        end = 0
        frames = pool.map(lambda span: _compress(os.pread(fd, span.length, span.offset)), bmap.ranges)
        for span, frame in zip(bmap.ranges, frames, strict=True):
            table += _write_hole(out, span.offset - end)
            out.write(frame)
            table += _ENTRY.pack(len(frame), span.length)
            end = span.end
        table += _write_hole(out, bmap.image_bytes - end)
        footer = _FOOTER.pack(len(table) // _ENTRY.size, 0, _SEEKABLE)
        out.write(struct.pack("<II", _SKIPPABLE, len(table) + len(footer)) + table + footer)
        out.flush()
        os.fsync(out.fileno())


def _compress(data: bytes) -> bytes:
    return zstd.compress(data, LEVEL)


@cache
def _zeros(length: int) -> bytes:
    return _compress(bytes(length))


def _write_hole(out: BinaryIO, length: int) -> bytes:
    table = b""
    while length:
        size = min(length, HOLE_BYTES_MAX)
        out.write(_zeros(size))
        table += _ENTRY.pack(len(_zeros(size)), size)
        length -= size
    return table


def frames(fd: int) -> list[FramePosition]:
    """Read the table of frames at the end of a compressed image. Raises: ImageError, OSError."""
    size = os.fstat(fd).st_size
    footer = os.pread(fd, _FOOTER.size, max(0, size - _FOOTER.size))
    if len(footer) < _FOOTER.size or _FOOTER.unpack(footer)[2] != _SEEKABLE:
        raise ImageError("has no table of frames at its end: it is truncated, or was not made by `rap image`")
    count, descriptor, _ = _FOOTER.unpack(footer)
    table_offset = size - _FOOTER.size - count * _ENTRY.size
    if descriptor or table_offset < 0:
        raise ImageError("has a table of frames that this program cannot read")
    table = []
    file_offset = offset = 0
    for file_bytes, length in _ENTRY.iter_unpack(os.pread(fd, count * _ENTRY.size, table_offset)):
        table.append(FramePosition(file_offset, file_bytes, offset, length))
        file_offset, offset = file_offset + file_bytes, offset + length
    return table


def decompress(frame: bytes, into: memoryview) -> None:
    """Decompress a frame into `into`, which limits the size of the output. Raises: ImageError."""
    try:
        decompress_into(frame, into)
    except FrameError as error:
        raise ImageError(f"has a damaged frame: {error}") from None
    except LengthMismatch:
        raise ImageError(
            f"has a frame whose length differs from the {len(into)} bytes in its table"
        ) from None
