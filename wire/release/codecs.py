"""Compression formats that deltas decompress and recompress: of kernels (LZ4, gzip) and kernel modules (xz, zstd).

A compressed file changes everywhere when its content changes in one place. A delta therefore describes the content,
and the box recompresses it, if that reproduces the bytes. LZ4 uses the system's liblz4, which systemd needs as well.
gzip uses the program gzip, as for kernels, because zlib produces other bytes. zstd uses the system's libzstd, because
each version produces other bytes. Kernels compressed with zstd are not recompressed: level 22 needs more memory than
a box may use.
"""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_DECLARATIONS: Final = """
    int LZ4_compressBound(int);
    int LZ4_compress_HC(const char *, char *, int, int, int);
    int LZ4_decompress_safe(const char *, char *, int, int);
    void *ZSTD_createCCtx(void);
    size_t ZSTD_freeCCtx(void *);
    size_t ZSTD_CCtx_setParameter(void *, int, int);
    size_t ZSTD_compressBound(size_t);
    size_t ZSTD_compress2(void *, void *, size_t, const void *, size_t);
    unsigned ZSTD_isError(size_t);
"""
LZ4_LIBRARY: Final = "liblz4.so.1"
LZ4_MAGIC: Final = b"\x02\x21\x4c\x18"
"""Magic number of the legacy format of LZ4, which kernels use: blocks of 8 MiB, each preceded by its length."""
LZ4_BLOCK_BYTES: Final = 8 * 1024 * 1024
ZSTD_LIBRARY: Final = "libzstd.so.1"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_BITS: Final = 31
"""The largest window of zlib, with the header of gzip."""
_CHUNK_BYTES: Final = 256 * 1024
_XZ_BYTES_MAX: Final = 66 * 1024 * 1024
_ZSTD_LEVEL, _ZSTD_CHECKSUM = 100, 201
"""ZSTD_c_compressionLevel and ZSTD_c_checksumFlag of zstd.h."""
_ZSTD_WINDOW_LOG_MAX: Final = 23
"""Windows of at most 8 MiB, the maximum size of a file in an operation."""


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
    return _library(LZ4_LIBRARY, "lz4-libs (liblz4-1)")


@cache
def _zstd() -> Any:
    return _library(ZSTD_LIBRARY, "libzstd (libzstd1)")


def _library(name: str, package: str) -> Any:
    try:
        return _ffi().dlopen(name)
    except OSError:
        raise CodecError(f"{name} is missing; install {package}") from None


def _unpack_lz4(packed: bytes, length: int) -> bytes | bytearray:
    if packed[:4] != LZ4_MAGIC:
        raise CodecError("is not in the legacy format of LZ4")
    unpacked, unpacked_bytes, start = bytearray(length), 0, 4
    view, source = _ffi().from_buffer(unpacked, require_writable=True), _ffi().from_buffer(packed)
    while start < len(packed):
        block_bytes = int.from_bytes(packed[start : start + 4], "little")
        start += 4
        if start + block_bytes > len(packed):
            raise CodecError("is truncated")
        result = _lz4().LZ4_decompress_safe(
            source + start, view + unpacked_bytes, block_bytes, min(LZ4_BLOCK_BYTES, length - unpacked_bytes)
        )
        if result < 0:
            raise CodecError("has a damaged block, or a longer one than expected")
        start, unpacked_bytes = start + block_bytes, unpacked_bytes + result
    if unpacked_bytes != length:
        raise CodecError(f"has {unpacked_bytes} bytes after decompression instead of {length}")
    return unpacked


def _pack_lz4_block(data: bytes | bytearray, level: int) -> bytes:
    bound = _lz4().LZ4_compressBound(len(data))
    packed = bytearray(bound)
    view = _ffi().from_buffer(packed, require_writable=True)
    packed_bytes = _lz4().LZ4_compress_HC(_ffi().from_buffer(data), view, len(data), bound, level)
    if packed_bytes <= 0:
        raise CodecError("liblz4 failed")
    return bytes(memoryview(packed)[:packed_bytes])


def _unpack_xz(packed: bytes, length: int) -> bytes:
    return _unpack_stream(
        lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_BYTES_MAX), lzma.LZMAError, packed, length
    )


def _unpack_zstd(packed: bytes, length: int) -> bytes:
    decoder = zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG_MAX}
    )
    return _unpack_stream(decoder, zstd.ZstdError, packed, length)


def _unpack_stream(
    decoder: lzma.LZMADecompressor | zstd.ZstdDecompressor,
    damaged: type[Exception],
    packed: bytes,
    length: int,
) -> bytes:
    """Decompress a stream of one frame; `damaged` is the decoder's exception. Raises: CodecError."""
    try:
        data = decoder.decompress(packed, length + 1)
    except damaged as error:
        raise CodecError(str(error)) from None
    if len(data) != length or not decoder.eof or decoder.unused_data:
        raise CodecError(f"has another length than {length} bytes after decompression")
    return data


def _unpack_gzip(packed: bytes, length: int) -> bytearray:
    decoder, unpacked, unpacked_bytes, at = zlib.decompressobj(_GZIP_BITS), bytearray(length), 0, 0
    while not decoder.eof:
        if not (chunk := decoder.unconsumed_tail):
            chunk = packed[at : at + _CHUNK_BYTES]
            at += len(chunk)
        try:
            piece = decoder.decompress(chunk, _CHUNK_BYTES)
        except zlib.error as error:
            raise CodecError(str(error)) from None
        if unpacked_bytes + len(piece) > length or not chunk:
            break
        unpacked[unpacked_bytes : unpacked_bytes + len(piece)] = piece
        unpacked_bytes += len(piece)
    if unpacked_bytes != length or not decoder.eof or decoder.unused_data or at < len(packed):
        raise CodecError(f"has another length than {length} bytes after decompression")
    return unpacked


def _pack_gzip(pieces: Iterable[bytes | bytearray], level: int) -> bytes:
    """Return the joined pieces, compressed by `gzip` as scripts/Makefile.lib in the sources of Linux calls it."""
    with os.fdopen(os.memfd_create("gzip"), "rb") as packed_file:
        try:
            command = ["gzip", "-n", f"-{level}", "-c"]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=packed_file.fileno(), stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise CodecError(f"the program gzip cannot be started: {error.strerror}; install gzip") from None
        with process:
            assert process.stdin is not None
            try:
                for piece in pieces:
                    process.stdin.write(piece)
                process.stdin.close()
            except OSError:
                process.kill()
        if process.returncode:
            raise CodecError("the program gzip failed")
        packed_file.seek(0)
        return packed_file.read()


def _pack_xz(data: bytes | bytearray, check: int, filters: list[dict[str, int]] | None) -> bytes:
    try:
        return lzma.compress(data, lzma.FORMAT_XZ, check, filters=filters)
    except (lzma.LZMAError, MemoryError) as error:
        raise CodecError(str(error)) from None


def _pack_zstd(data: bytes | bytearray, level: int) -> bytes:
    """Compress as the program zstd does: the frame has the length of the content, and a checksum."""
    library, bound = _zstd(), _zstd().ZSTD_compressBound(len(data))
    context = library.ZSTD_createCCtx()
    try:
        for parameter, value in ((_ZSTD_LEVEL, level), (_ZSTD_CHECKSUM, 1)):
            library.ZSTD_CCtx_setParameter(context, parameter, value)
        view = _ffi().from_buffer(packed := bytearray(bound), require_writable=True)
        packed_bytes = library.ZSTD_compress2(context, view, bound, _ffi().from_buffer(data), len(data))
    finally:
        library.ZSTD_freeCCtx(context)
    if library.ZSTD_isError(packed_bytes):
        raise CodecError("libzstd failed")
    return bytes(memoryview(packed)[:packed_bytes])


UNPACK: Final[Mapping[str, Callable[[bytes, int], bytes | bytearray]]] = {
    "gzip": _unpack_gzip,
    "lz4": _unpack_lz4,
    "xz": _unpack_xz,
    "zstd": _unpack_zstd,
}
"""Decoders by name. Arguments: packed data, and its exact length when unpacked. Raise CodecError."""
PACK: Final[Mapping[str, Callable[[bytes | bytearray], bytes]]] = {
    "lz4hc-9": partial(_pack_lz4_block, level=9),
    "lz4hc-12": partial(_pack_lz4_block, level=12),
    "xz-6": partial(_pack_xz, check=lzma.CHECK_CRC64, filters=None),
    # kernel modules: scripts/Makefile.modinst in the sources of Linux
    "xz-module": partial(
        _pack_xz, check=lzma.CHECK_CRC32, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1024 * 1024}]
    ),
    # kernel modules, too: the default level of the zstd program
    "zstd-3": partial(_pack_zstd, level=3),
}
"""Encoders by name, for one block of LZ4 or a whole .xz or .zst file. Raise CodecError."""
PACK_WHOLE: Final[Mapping[str, Callable[[Iterable[bytes | bytearray]], bytes]]] = {
    "gzip-9": partial(_pack_gzip, level=9)
}
"""Encoders by name, for files whose content is not in blocks. Raise CodecError, and errors of the iterable."""
