"""Compressed files that a delta describes by their content: their content, and whether a box can reproduce them."""

from __future__ import annotations

import lzma
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wire.release.codecs import (
    GZIP_MAGIC,
    LZ4_BLOCK_BYTES,
    LZ4_MAGIC,
    PACK,
    PACK_WHOLE,
    UNPACK,
    ZSTD_MAGIC,
    CodecError,
)
from wire.release.delta import UNPACKED_BYTES_MAX, WINDOW_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BOOT_MAGIC: Final = b"HdrS"
_XZ_MAGIC: Final = b"\xfd7zXZ\0"


@dataclass(frozen=True)
class CompressedPart:
    """A compressed part of a file, from `start` to `end`, and its content."""

    start: int
    end: int
    codec: str
    """A key of `UNPACK`."""
    content: bytes


@dataclass(frozen=True)
class CompressedBlock:
    """A part of the content, and the bytes of the file to which `codec` compresses it."""

    content_start: int
    content_end: int
    start: int
    end: int
    codec: str


def find_packed(file: bytes) -> CompressedPart | None:
    """Return the compressed part of a kernel (a bzImage with LZ4 or gzip) or of a module (.xz, .zst), or None."""
    try:
        if file[:6] == _XZ_MAGIC:
            return _xz(file)
        if file[: len(ZSTD_MAGIC)] == ZSTD_MAGIC:
            return _zstd(file)
        if len(file) > 0x250 and file[0x202:0x206] == _BOOT_MAGIC:
            return _kernel(file)
    except (CodecError, lzma.LZMAError, zlib.error, zstd.ZstdError, EOFError, struct.error):
        pass
    return None


def _xz(file: bytes) -> CompressedPart | None:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    content = decoder.decompress(file, UNPACKED_BYTES_MAX)
    if not decoder.eof:
        return None
    return CompressedPart(0, len(file) - len(decoder.unused_data), "xz", content)


def _zstd(file: bytes) -> CompressedPart | None:
    decoder = zstd.ZstdDecompressor()
    content = decoder.decompress(file, UNPACKED_BYTES_MAX)
    if not decoder.eof:
        return None
    return CompressedPart(0, len(file) - len(decoder.unused_data), "zstd", content)


def _kernel(file: bytes) -> CompressedPart | None:
    """Return the compressed part of a bzImage, by the header of Linux's boot protocol (arch/x86/boot.rst)."""
    start = (file[0x1F1] + 1) * 512 + struct.unpack_from("<I", file, 0x248)[0]
    if file[start : start + len(GZIP_MAGIC)] == GZIP_MAGIC:
        return _gzip(file, start)
    end = (
        start + struct.unpack_from("<I", file, 0x24C)[0] - 4
    )  # the last four bytes are the length of the content
    content_bytes = struct.unpack_from("<I", file, end)[0] if end + 4 <= len(file) else 0
    if file[start : start + 4] != LZ4_MAGIC or not 0 < content_bytes <= UNPACKED_BYTES_MAX:
        return None
    return CompressedPart(start, end, "lz4", bytes(UNPACK["lz4"](file[start:end], content_bytes)))


def _gzip(file: bytes, start: int) -> CompressedPart | None:
    decoder = zlib.decompressobj(31)
    content = decoder.decompress(file[start:], UNPACKED_BYTES_MAX)
    if not decoder.eof:
        return None
    return CompressedPart(start, len(file) - len(decoder.unused_data), "gzip", content)


def whole_codec(file: bytes, packed: CompressedPart) -> str | None:
    """Return the codec that reproduces the whole compressed part, or None."""
    for name, pack in PACK_WHOLE.items():
        if name.startswith(packed.codec):
            try:
                if pack([packed.content]) == file[packed.start : packed.end]:
                    return name
            except CodecError:
                pass
    return None


def blocks(file: bytes, packed: CompressedPart) -> list[CompressedBlock] | None:
    """Return the parts of the content, if a box can compress each to the same bytes; else None."""
    parts = (
        _lz4_blocks(file, packed)
        if packed.codec == "lz4"
        else iter([(0, len(packed.content), packed.start, packed.end)])
    )
    result = []
    for content_start, content_end, start, end in parts:
        if max(content_end - content_start, end - start) > WINDOW_BYTES:
            return None
        content, expected = packed.content[content_start:content_end], file[start:end]
        codec = next(
            (name for name in PACK if name.startswith(packed.codec) and _reproduces(name, content, expected)),
            None,
        )
        if codec is None:
            return None
        result.append(CompressedBlock(content_start, content_end, start, end, codec))
    return result


def _reproduces(codec: str, content: bytes, expected: bytes) -> bool:
    """Return whether a codec compresses the content to the expected bytes."""
    try:
        return PACK[codec](content) == expected
    except CodecError:
        return False


def _lz4_blocks(file: bytes, packed: CompressedPart) -> Iterator[tuple[int, int, int, int]]:
    done, start = 0, packed.start + len(LZ4_MAGIC)
    while start < packed.end:
        length = struct.unpack_from("<I", file, start)[0]
        content_end = min(done + LZ4_BLOCK_BYTES, len(packed.content))
        yield done, content_end, start + 4, start + 4 + length
        done, start = content_end, start + 4 + length
