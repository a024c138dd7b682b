"""Decompressing a zstd frame into existing memory.

Python's zstd modules allocate new bytes for their output. For a MiB this is new memory from the kernel, whose page
faults take longer than the decompression; with small pieces, threads wait for the interpreter lock at each piece. The
system's libzstd, which every distribution has for its packages, fills the caller's memory in one call without holding
the lock (ZSTD_decompressDCtx, zstd.h). Without libzstd, the frame is decompressed in pieces.
"""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import Any, Final

from cffi import FFI

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIBRARY: Final = "libzstd.so.1"
PIECE_BYTES: Final = 32 * 1024
"""The size of the pieces of output. Larger buffers would be newly mapped memory each time."""
_TOO_SMALL: Final = 70  # zstd_errors.h, ZSTD_error_dstSize_tooSmall
_ffi: Final = FFI()
_ffi.cdef("""
    typedef struct ZSTD_DCtx_s ZSTD_DCtx;
    ZSTD_DCtx *ZSTD_createDCtx(void);
    size_t ZSTD_freeDCtx(ZSTD_DCtx *);
    size_t ZSTD_decompressDCtx(ZSTD_DCtx *, void *, size_t, const void *, size_t);
    unsigned ZSTD_isError(size_t);
    int ZSTD_getErrorCode(size_t);
    const char *ZSTD_getErrorName(size_t);
""")
_of_thread: Final = threading.local()


class FrameError(Exception):
    """The bytes are not a zstd frame, or a damaged one."""


class LengthMismatch(Exception):
    """The frame does not have exactly the length of the output memory."""


def decompress_into(frame: bytes, into: memoryview) -> None:
    """Decompress a frame into `into`, which limits the size of the output. Raises: FrameError, LengthMismatch."""
    written = _at_once(frame, into) if library() else _in_pieces(frame, into)
    if written != len(into):
        raise LengthMismatch


@cache
def library() -> Any:
    """Return the system's libzstd, or None if it is not installed."""
    try:
        return _ffi.dlopen(LIBRARY)
    except OSError:
        return None


def _at_once(frame: bytes, into: memoryview) -> int:
    lib = library()
    if not hasattr(_of_thread, "context"):
        _of_thread.context = _ffi.gc(lib.ZSTD_createDCtx(), lib.ZSTD_freeDCtx)
    target = _ffi.from_buffer(into, require_writable=True)
    written: int = lib.ZSTD_decompressDCtx(
        _of_thread.context, target, len(into), _ffi.from_buffer(frame), len(frame)
    )
    if not lib.ZSTD_isError(written):
        return written
    if lib.ZSTD_getErrorCode(written) == _TOO_SMALL:
        raise LengthMismatch
    raise FrameError(_ffi.string(lib.ZSTD_getErrorName(written)).decode())


def _in_pieces(frame: bytes, into: memoryview) -> int:
    """Decompress a frame into `into` with Python's module, in pieces.

    Returns the number of bytes written. Raises: FrameError, LengthMismatch.
    """
    decompressor = zstd.ZstdDecompressor()
    done, rest = 0, frame
    try:
        while done < len(into):
            piece = decompressor.decompress(rest, min(PIECE_BYTES, len(into) - done))
            into[done : done + len(piece)] = piece
            done, rest = done + len(piece), b""
            if decompressor.eof or not piece:
                break
        over = b"" if decompressor.eof else decompressor.decompress(b"", 1)
    except (zstd.ZstdError, EOFError) as error:
        raise FrameError(str(error)) from None
    if over or not decompressor.eof:
        raise LengthMismatch
    return done
