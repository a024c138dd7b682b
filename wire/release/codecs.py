"""Compression that deltas can undo and repeat: of kernels (LZ4) and of their modules (xz).

A compressed file changes everywhere when its content changes in one place. A delta therefore describes the content,
and the box compresses it again, if that gives the same bytes. The system's liblz4 does LZ4; systemd needs it, too.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final

_DECLARATIONS: Final = """
    int LZ4_compressBound(int);
    int LZ4_compress_HC(const char *, char *, int, int, int);
    int LZ4_decompress_safe(const char *, char *, int, int);
"""
LZ4_LIBRARY: Final = "liblz4.so.1"
LZ4_MAGIC: Final = b"\x02\x21\x4c\x18"
"""Begins the legacy format of LZ4, which kernels have: blocks of 8 MiB, each after its length."""
LZ4_BLOCK_BYTES: Final = 8 * 1024 * 1024
_XZ_BYTES_MAX: Final = 66 * 1024 * 1024


class CodecError(Exception):
    """The data is damaged, has another length, or a library is missing."""


@cache
def _ffi() -> Any:
    # only updates need it, and it parses the declarations: the box program starts without it
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi


@cache
def _lz4() -> Any:
    try:
        return _ffi().dlopen(LZ4_LIBRARY)
    except OSError:
        raise CodecError(f"{LZ4_LIBRARY} is missing; install lz4-libs (liblz4-1)") from None


def _unpack_lz4(packed: bytes, length: int) -> bytes | bytearray:
    if packed[:4] != LZ4_MAGIC:
        raise CodecError("is not in the legacy format of LZ4")
    made, done, start = bytearray(length), 0, 4
    view, source = _ffi().from_buffer(made, require_writable=True), _ffi().from_buffer(packed)
    while start < len(packed):
        block_bytes = int.from_bytes(packed[start : start + 4], "little")
        start += 4
        if start + block_bytes > len(packed):
            raise CodecError("is truncated")
        got = _lz4().LZ4_decompress_safe(
            source + start, view + done, block_bytes, min(LZ4_BLOCK_BYTES, length - done)
        )
        if got < 0:
            raise CodecError("has a damaged block, or a longer one than expected")
        start, done = start + block_bytes, done + got
    if done != length:
        raise CodecError(f"has {done} bytes after decompression instead of {length}")
    return made


def _pack_lz4_block(data: bytes | bytearray, level: int) -> bytes:
    bound = _lz4().LZ4_compressBound(len(data))
    made = bytearray(bound)
    view = _ffi().from_buffer(made, require_writable=True)
    got = _lz4().LZ4_compress_HC(_ffi().from_buffer(data), view, len(data), bound, level)
    if got <= 0:
        raise CodecError("liblz4 failed")
    return bytes(memoryview(made)[:got])


def _unpack_xz(packed: bytes, length: int) -> bytes:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_BYTES_MAX)
    try:
        data = decoder.decompress(packed, length + 1)
    except lzma.LZMAError as error:
        raise CodecError(str(error)) from None
    if len(data) != length or not decoder.eof or decoder.unused_data:
        raise CodecError(f"has another length than {length} bytes after decompression")
    return data


def _pack_xz(data: bytes | bytearray, check: int, filters: list[dict[str, int]] | None) -> bytes:
    try:
        return lzma.compress(data, lzma.FORMAT_XZ, check, filters=filters)
    except (lzma.LZMAError, MemoryError) as error:
        raise CodecError(str(error)) from None


UNPACK: Final[Mapping[str, Callable[[bytes, int], bytes | bytearray]]] = {
    "lz4": _unpack_lz4,
    "xz": _unpack_xz,
}
"""By name: (packed data, its exact length when unpacked). Raise CodecError."""
PACK: Final[Mapping[str, Callable[[bytes | bytearray], bytes]]] = {
    "lz4hc-9": partial(_pack_lz4_block, level=9),
    "lz4hc-12": partial(_pack_lz4_block, level=12),
    "xz-6": partial(_pack_xz, check=lzma.CHECK_CRC64, filters=None),
    # of modules: scripts/Makefile.modinst in the sources of Linux
    "xz-module": partial(
        _pack_xz, check=lzma.CHECK_CRC32, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1024 * 1024}]
    ),
}
"""By name. One block of LZ4, or a whole .xz file. Raise CodecError."""
