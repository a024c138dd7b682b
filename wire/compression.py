"""Compression of batches: a zstd stream a connection, primed with a versioned dictionary.

A batch of one alert has nothing in it to compress against. So a zstd frame is not ended with the batch: each batch is
one flushed block, and refers to what the batches before it said and to the dictionary. Once so much has been said
that the dictionary would leave the window, the frame is ended and the next batch begins a new one: an alert is rare,
and its words are in the dictionary and not in the routine reports before it. A frame's first block is preceded by the
version of its dictionary.

What a body is shows in its first bytes:

    00xxxxxx   the first block of a stream; the byte is the version of its dictionary
    01xxxxxx   a frame that is whole, and continues and begins nothing; the other bits are the version
    1xxxxxxx   a later block: four bytes of position, which are the CRC-32 of all blocks of the stream before it, with
               the first bit set

The position names no stream: it names what must have been read before, and that is what the receiver needs to have.
Whoever cannot continue a stream (another server, a restart, a connection on which an intermediary mixes the requests
of several senders) refuses the batch, and the sender starts a new stream: that is what `Compressor` objects are for,
one a connection.

Memory is bounded on both sides by the window, and decompression by the caller's limit: output is produced at
most one byte beyond it.
"""

from __future__ import annotations

import sys
import zlib
from enum import Enum
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
_CONTINUES: Final = 0x80
_ALONE: Final = 0x40
_POSITION_BYTES: Final = 4


class BodyKind(Enum):
    """What a body is to the stream of its connection."""

    BEGINS = "begins"
    CONTINUES = "continues"
    SELF_CONTAINED = "self-contained"


def body_kind(body: bytes) -> BodyKind:
    """The kind by the first byte; a body that is empty begins a stream, and is refused as such."""
    first = body[0] if body else 0
    if first & _CONTINUES:
        return BodyKind.CONTINUES
    return BodyKind.SELF_CONTAINED if first & _ALONE else BodyKind.BEGINS


def _position(checksum: int) -> bytes:
    return (checksum | _CONTINUES << 24).to_bytes(_POSITION_BYTES)


class CompressionError(Exception):
    """The bytes are no block of a stream, or would grow beyond the limit."""


class UnknownStreamError(CompressionError):
    """The body continues a stream of which this connection has not had all before."""


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
        self._checksum: int | None = None  # of the blocks until now

    def compress(self, data: bytes) -> bytes:
        """The next batch's bytes on the wire."""
        block = self._block(data)
        if self._checksum is None:
            self._checksum = zlib.crc32(block)
            return block
        position, self._checksum = _position(self._checksum), zlib.crc32(block, self._checksum)
        return position + block

    def _block(self, data: bytes, *, ends: bool = False) -> bytes:
        start = b""
        if self._zstd is None:
            start = bytes([CURRENT_DICTIONARY | (_ALONE if ends else 0)])
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


def compress_alone(data: bytes) -> bytes:
    """A batch's bytes on the wire, self-contained: against the dictionary, and nothing before or after."""
    return Compressor()._block(data, ends=True)


class Decompressor:
    """The receiving end of what one connection carries; an intermediary may put several senders on it."""

    def __init__(self) -> None:
        self._frames = _Frames()
        self._checksum: int | None = None  # of the blocks that were read; None: a stream must begin

    def decompress(self, body: bytes, bytes_max: int) -> bytes:
        """The batch in `body`, of at most `bytes_max` bytes.

        A body that was cut short gives no error here but less than its batch, which is then no message.

        Raises:
            UnknownStreamError: the body is not the next one of the connection's stream, which may go on.
            CompressionError: the body cannot be read; the stream has ended.
        """
        kind = body_kind(body)
        if kind is BodyKind.SELF_CONTAINED:
            return _Frames().decompress(bytes([body[0] ^ _ALONE]) + body[1:], bytes_max)
        block, before = body, 0
        if kind is BodyKind.BEGINS:
            self._frames = _Frames()
        elif self._checksum is None or not body.startswith(_position(self._checksum)):
            raise UnknownStreamError("this connection has not had all that the body refers to")
        else:
            block, before = body[_POSITION_BYTES:], self._checksum
        self._checksum = None
        data = self._frames.decompress(block, bytes_max)
        self._checksum = zlib.crc32(block, before)
        return data


class _Frames:
    """The frames of one stream; after an error it is of no further use."""

    def __init__(self) -> None:
        self._zstd: zstd.ZstdDecompressor | None = None

    def decompress(self, block: bytes, bytes_max: int) -> bytes:
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
