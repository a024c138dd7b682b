"""Compression of batches: a zstd stream a connection, primed with a versioned dictionary.

A batch of one alert has nothing in it to compress against. So a zstd frame is not ended with the batch: each batch is
one flushed block, and refers to what the batches before it said and to the dictionary. Once so much has been said
that the dictionary would leave the window, the frame is ended and the next batch begins a new one: an alert is rare,
and its words are in the dictionary and not in the routine reports before it. A frame's first block is preceded by the
version of its dictionary.

Whoever cannot continue a stream (another server, a restart) refuses the batch, and the sender starts a new stream:
that is what `Compressor` objects are for, one a connection.

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
"""A window of 64 KiB: some 300 routine reports, and what a data center must hold for each box."""
FRAME_BYTES_MAX: Final = 48 * 1024
"""What goes into a frame before it is ended, so that the dictionary (up to 16 KiB) stays within the window."""
LEVEL: Final = 6
"""Of a lab's batches none of the levels up to 9 makes fewer bytes; 9 takes three times the time."""
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
        self._zstd: zstd.ZstdCompressor | None = None
        self._room = 0

    def compress(self, data: bytes, *, ends: bool = False) -> bytes:
        """The next batch's bytes on the wire; with `ends`, nothing after it refers to it."""
        start = b""
        if self._zstd is None:
            start = bytes([CURRENT_DICTIONARY])
            self._room = FRAME_BYTES_MAX
            self._zstd = zstd.ZstdCompressor(
                options={
                    zstd.CompressionParameter.compression_level: LEVEL,
                    zstd.CompressionParameter.window_log: WINDOW_LOG,
                },
                zstd_dict=dictionary(CURRENT_DICTIONARY),
            )
        self._room -= len(data)
        ends = ends or self._room < 0
        block = self._zstd.compress(data, mode=self._zstd.FLUSH_FRAME if ends else self._zstd.FLUSH_BLOCK)
        if ends:
            self._zstd = None
        return start + block


STREAM_HEADER: Final = "stream"
"""Of a request: the stream that its body continues and the body's position in it, as in `3f2a9c01.17`."""
SELF_CONTAINED: Final = "-"
"""The value of the header for a body that is a whole frame and continues nothing."""


def compress_alone(data: bytes) -> bytes:
    """A batch's bytes on the wire, self-contained: against the dictionary, and nothing before or after."""
    compressor = Compressor()
    return compressor.compress(data, ends=True)


class UnknownStreamError(Exception):
    """The body continues a stream of which this connection has not had all before."""


class Streams:
    """The receiving end of what one connection carries; an intermediary may put several senders on it."""

    def __init__(self) -> None:
        self._name = ""
        self._next = 0
        self._stream = Decompressor()

    def decompress(self, named: str, block: bytes, bytes_max: int) -> bytes:
        """The batch in `block`, where `named` is the request's STREAM_HEADER, empty if it had none.

        Raises:
            UnknownStreamError: the block is not the next one of the connection's stream.
            CompressionError: as `Decompressor.decompress`.
        """
        if named == SELF_CONTAINED:
            return Decompressor().decompress(block, bytes_max)
        name, _, position = named.partition(".")
        if named and position == "0":
            self._name, self._next, self._stream = name, 0, Decompressor()
        elif named and (name != self._name or position != str(self._next)):
            raise UnknownStreamError(f"this connection has no stream {name} up to {position}")
        self._next += 1
        return self._stream.decompress(block, bytes_max)


class Decompressor:
    """The receiving end of one stream; after an error it is of no further use."""

    def __init__(self) -> None:
        self._zstd: zstd.ZstdDecompressor | None = None

    def decompress(self, block: bytes, bytes_max: int) -> bytes:
        """The batch in `block`, of at most `bytes_max` bytes. Raises CompressionError.

        A block that was cut short gives no error here but less than its batch, which is then no message.
        """
        if self._zstd is None or self._zstd.eof:
            if not block:
                raise CompressionError("an empty body cannot start a frame")
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
        if self._zstd.unused_data:
            raise CompressionError("something follows the end of the frame")
        return data
