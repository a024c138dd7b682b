"""Reading a signed image.

An image is used only after the signature of its manifest was verified, and a range only after it was compared with
its hash. The table of frames in a compressed image needs no signature: a wrong table can only give a range with a
wrong hash, and never more bytes than requested.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from imaging import signing
from imaging.flash.target import buffer
from imaging.media.bmap import Bmap, BmapError, MappedRange, parse
from imaging.media.imagefile import FramePosition, ImageError, decompress, frames

AHEAD_BYTES: Final = 16 * 1024 * 1024
"""How far ahead to request data, because the kernel does not detect sequential access by several threads."""


class _Reader(Protocol):
    def __call__(self, span: MappedRange, into: memoryview) -> None: ...


@dataclass(frozen=True)
class Image:
    """An open image, whose manifest and map were verified."""

    path: Path
    manifest: signing.Manifest
    bmap: Bmap
    manifest_sha256: str
    _read: _Reader

    def read(self, span: MappedRange, into: memoryview) -> None:
        """Read a range into `into` and verify its hash. Raises: ImageError."""
        self._read(span, into)
        if hashlib.sha256(into).digest() != span.sha256:
            raise ImageError(
                f"{self.path}: was changed or is damaged: bytes {span.offset} to {span.end - 1} are not those "
                "that were signed; fetch it again"
            )

    def bytes(self, offset: int, length: int) -> bytes:
        """Read bytes of the image, with zeros for unmapped parts. Raises: ImageError."""
        data = bytearray(length)
        for span in self.bmap.ranges:
            start, end = max(span.offset, offset), min(span.end, offset + length)
            if start < end:
                into = buffer(span.length)
                self.read(span, into)
                data[start - offset : end - offset] = into[start - span.offset : end - span.offset]
        return bytes(data)


@contextmanager
def open_image(path: Path, key: Ed25519PublicKey) -> Iterator[Image]:
    """Verify the manifest and map of an image and open it. Raises: ImageError, SigningError."""
    manifest, digest = signing.read_manifest(signing.sibling(path, ".manifest.json"), key)
    map_file = signing.sibling(path, ".bmap")
    map_bytes = signing.read_signed(manifest, map_file)
    try:
        bmap = parse(map_bytes)
    except BmapError as error:
        raise ImageError(f"{map_file}: {error}") from None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        reader = _framed(path, fd, bmap) if path.name.endswith(".zst") else _raw(path, fd, bmap)
        yield Image(path, manifest, bmap, digest, reader)
    finally:
        os.close(fd)


def _raw(path: Path, fd: int, bmap: Bmap) -> _Reader:
    if (size := os.fstat(fd).st_size) != bmap.image_bytes:
        raise ImageError(f"{path}: has {size} bytes, but its map is for {bmap.image_bytes}: fetch it again")

    def read(span: MappedRange, into: memoryview) -> None:
        _read_ahead(fd, span.offset, span.length)
        try:
            count = os.preadv(fd, [into], span.offset)
        except OSError as error:
            raise ImageError(f"{path}: byte {span.offset} cannot be read: {error.strerror}") from None
        if count != span.length:
            raise ImageError(
                f"{path}: ends at byte {span.offset + count}: it was truncated while it was read"
            )

    return read


def _framed(path: Path, fd: int, bmap: Bmap) -> _Reader:
    frames_by_offset = _frames_by_range(path, fd, bmap)

    def read(span: MappedRange, into: memoryview) -> None:
        frame = frames_by_offset[span.offset]
        _read_ahead(fd, frame.file_offset, frame.file_bytes)
        try:
            decompress(os.pread(fd, frame.file_bytes, frame.file_offset), into)
        except (ImageError, OSError) as error:
            raise ImageError(f"{path}: {error}") from None

    return read


def _read_ahead(fd: int, offset: int, length: int) -> None:
    os.posix_fadvise(fd, offset + AHEAD_BYTES, length, os.POSIX_FADV_WILLNEED)


def _frames_by_range(path: Path, fd: int, bmap: Bmap) -> dict[int, FramePosition]:
    try:
        by_offset = {frame.offset: frame for frame in frames(fd)}
    except (ImageError, OSError) as error:
        raise ImageError(f"{path}: {error}") from None
    for span in bmap.ranges:
        if span.offset not in by_offset or by_offset[span.offset].length != span.length:
            raise ImageError(
                f"{path}: its frames do not match the ranges of its map, which belongs to another image"
            )
    return by_offset
