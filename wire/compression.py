"""Compression of batches: one zstd stream a connection, primed with a versioned dictionary.

A batch of one alert has nothing in it to compress against. So the stream is not ended between batches: each
batch is one flushed block of the connection's stream, and refers to what the batches before it said and,
at the start, to the dictionary. The identity of the dictionary travels in the frame header of a stream's
first batch. Whoever cannot continue a stream (another server, a restart) refuses the batch, and the sender
starts a new stream: that is what `Compressor` objects are for, one a stream.

Memory is bounded on both sides by the window, and decompression by the caller's limit: output is produced at
most one byte beyond it.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WINDOW_LOG: Final = 16
"""A window of 64 KiB: some 2,000 routine reports, and what a data center must hold for each box."""
LEVEL: Final = 9
"""Above 9 a batch costs twice the time for under 1 % fewer bytes."""
CURRENT_DICTIONARY: Final = 1


class CompressionError(Exception):
    """The bytes do not continue this stream, or would grow beyond the limit."""


@cache
def dictionary(version: int) -> zstd.ZstdDict:
    """The dictionary of that version. Raises CompressionError for a version this program does not have."""
    file = resources.files("wire") / "dictionaries" / f"v{version}.zdict"
    if not file.is_file():
        raise CompressionError(
            f"no dictionary of version {version}; this program has up to v{CURRENT_DICTIONARY}"
        )
    return zstd.ZstdDict(file.read_bytes(), is_raw=True)


class Compressor:
    """The sending end of one stream."""

    def __init__(self) -> None:
        self._zstd = zstd.ZstdCompressor(
            options={
                zstd.CompressionParameter.compression_level: LEVEL,
                zstd.CompressionParameter.window_log: WINDOW_LOG,
            },
            zstd_dict=dictionary(CURRENT_DICTIONARY),
        )
        self._started = False

    def compress(self, data: bytes) -> bytes:
        """The next batch's bytes on the wire."""
        block = self._zstd.compress(data, mode=self._zstd.FLUSH_BLOCK)
        if self._started:
            return block
        self._started = True
        return bytes([CURRENT_DICTIONARY]) + block


class Decompressor:
    """The receiving end of one stream; after an error it is of no further use."""

    def __init__(self) -> None:
        self._zstd: zstd.ZstdDecompressor | None = None

    def decompress(self, block: bytes, bytes_max: int) -> bytes:
        """The batch in `block`, of at most `bytes_max` bytes. Raises CompressionError.

        A block that was cut short gives no error here but less than its batch, which is then no message.
        """
        if self._zstd is None:
            if not block:
                raise CompressionError("an empty body cannot start a stream")
            self._zstd = zstd.ZstdDecompressor(
                zstd_dict=dictionary(block[0]),
                options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG},
            )
            block = block[1:]
        try:
            data = self._zstd.decompress(block, max_length=bytes_max + 1)
        except (zstd.ZstdError, EOFError) as error:
            raise CompressionError(f"not the next block of this stream: {error}") from None
        if len(data) > bytes_max:
            raise CompressionError(f"decompresses to more than {bytes_max} bytes")
        if self._zstd.eof:
            raise CompressionError("the stream was ended")
        return data
