"""Compression of batches: one zstd stream per connection, primed with a versioned dictionary.

A batch with a single alert is too short to compress by itself. Therefore the zstd frame does not end with the batch:
each batch is one flushed block, and can refer to earlier batches and to the dictionary. Once the frame is so long
that the dictionary would leave the window, it is ended and the next batch starts a new frame: alerts are rare, and
their words are in the dictionary but not in the routine reports before them. The first block of a frame is preceded
by the version of its form: 1 is the batch itself, 2 is the batch packed in columns (`wire.columns`). A receiver
accepts both. Self-contained frames have form 1: a box sends them after a stream was refused, and a data center that
does not know form 2 yet can read them.

The first bytes of a body identify its kind:

    00xxxxxx   the first block of a stream; the byte is the version of its form
    01xxxxxx   a self-contained frame, outside any stream; the other bits are the version of its form
    1xxxxxxx   a later block: four bytes of position, which are the CRC-32 of all earlier blocks of the stream, with
               the first bit set

The position identifies the earlier blocks, all of which the receiver must have processed; it does not identify a
stream. A receiver that cannot continue a stream (another server, a restart, a connection on which an intermediary
mixes the requests of several senders) refuses the batch, and the sender starts a new stream with a new `Compressor`;
each connection has one.

Memory on both sides is bounded by the window, and decompression by the caller's limit: at most two bytes more than
the limit are produced, and 2.1 MB from columns.
"""

from __future__ import annotations

import sys
import zlib
from enum import Enum
from functools import cache
from importlib import resources
from typing import Final

from wire.columns import ColumnsError, Packer, Unpacker

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WINDOW_LOG: Final = 16
"""A window of 64 KiB holds about 300 routine reports; a data center needs this much memory for each box."""
FRAME_BYTES_MAX: Final = 48 * 1024
"""A frame is ended at this size, so that the dictionary (up to 16 KiB) stays within the window."""
LEVEL: Final = 6
"""No higher level up to 9 makes the batches of a lab smaller, and level 9 takes three times as long."""
PLAIN: Final = 1
PACKED: Final = 2
"""The forms of a frame."""
_DICTIONARIES: Final = {PLAIN: 1, PACKED: 1}
"""The version of the dictionary of each form."""
_CONTINUES: Final = 0x80
_SELF_CONTAINED: Final = 0x40
_POSITION_BYTES: Final = 4


class BodyKind(Enum):
    """The relation of a body to the stream of its connection."""

    BEGINS = "begins"
    CONTINUES = "continues"
    SELF_CONTAINED = "self-contained"


def body_kind(body: bytes) -> BodyKind:
    """Return the kind of a body by its first byte; an empty body counts as BEGINS, and is refused as such."""
    first = body[0] if body else 0
    if first & _CONTINUES:
        return BodyKind.CONTINUES
    return BodyKind.SELF_CONTAINED if first & _SELF_CONTAINED else BodyKind.BEGINS


def _position(checksum: int) -> bytes:
    return (checksum | _CONTINUES << 24).to_bytes(_POSITION_BYTES)


class CompressionError(Exception):
    """The bytes are not a block of a stream, or would decompress to more than the limit."""


class UnknownStreamError(CompressionError):
    """The body continues a stream of which this connection has not received all earlier blocks."""


@cache
def dictionary(form: int) -> zstd.ZstdDict:
    """Load the dictionary of a form. Raises: CompressionError for a form that this program does not have."""
    if form not in _DICTIONARIES:
        raise CompressionError(f"unknown form {form} of a frame; this program has the forms up to {PACKED}")
    file = resources.files("wire") / "dictionaries" / f"v{_DICTIONARIES[form]}.zdict"
    return zstd.ZstdDict(file.read_bytes(), is_raw=True)


class Compressor:
    """The sender's end of one compression stream."""

    def __init__(self) -> None:
        self._zstd: zstd.ZstdCompressor | None = None
        self._bytes_left = 0
        self._checksum: int | None = None  # of all blocks so far
        self._packer = Packer()

    def compress(self, data: bytes) -> bytes:
        """Compress the next batch."""
        block = self._block(self._packer.pack(data), PACKED)
        if self._checksum is None:
            self._checksum = zlib.crc32(block)
            return block
        position, self._checksum = _position(self._checksum), zlib.crc32(block, self._checksum)
        return position + block

    def _block(self, data: bytes, form: int, *, ends: bool = False) -> bytes:
        start = b""
        if self._zstd is None:
            start = bytes([form | (_SELF_CONTAINED if ends else 0)])
            self._bytes_left = FRAME_BYTES_MAX
            self._zstd = zstd.ZstdCompressor(
                options={
                    zstd.CompressionParameter.compression_level: LEVEL,
                    zstd.CompressionParameter.window_log: WINDOW_LOG,
                },
                zstd_dict=dictionary(form),
            )
        self._bytes_left -= len(data)
        ends = ends or self._bytes_left < 0
        block = self._zstd.compress(data, mode=self._zstd.FLUSH_FRAME if ends else self._zstd.FLUSH_BLOCK)
        if ends:
            self._zstd = None
        return start + block


def compress_self_contained(data: bytes) -> bytes:
    """Compress a batch into a self-contained frame, which uses only the dictionary."""
    return Compressor()._block(data, PLAIN, ends=True)


class Decompressor:
    """The receiver's end of the streams of one connection; an intermediary may put several senders on it."""

    def __init__(self) -> None:
        self._frames = _Frames()
        self._checksum: int | None = None  # of the blocks received; None: a stream must begin

    def decompress(self, body: bytes, bytes_max: int) -> bytes:
        """Decompress a body to at most `bytes_max` bytes.

        Truncation of a body is not detected here: it yields a truncated batch, which `wire.messages.decode` refuses.

        Raises:
            UnknownStreamError: the body is not the next block of this connection's stream, which may continue.
            CompressionError: the body is invalid; the stream has ended.
        """
        kind = body_kind(body)
        if kind is BodyKind.SELF_CONTAINED:
            return _Frames().decompress(bytes([body[0] ^ _SELF_CONTAINED]) + body[1:], bytes_max)
        block, earlier_checksum = body, 0
        if kind is BodyKind.BEGINS:
            self._frames = _Frames()
        elif self._checksum is None or not body.startswith(_position(self._checksum)):
            raise UnknownStreamError("this connection has not received all blocks that the body refers to")
        else:
            block, earlier_checksum = body[_POSITION_BYTES:], self._checksum
        self._checksum = None
        data = self._frames.decompress(block, bytes_max)
        self._checksum = zlib.crc32(block, earlier_checksum)
        return data


class _Frames:
    """The frames of one stream; unusable after an error."""

    def __init__(self) -> None:
        self._zstd: zstd.ZstdDecompressor | None = None
        self._form = PLAIN
        self._unpacker = Unpacker()

    def decompress(self, block: bytes, bytes_max: int) -> bytes:
        if self._zstd is None or self._zstd.eof:
            if not block:
                raise CompressionError("an empty body cannot start a frame")
            self._form = block[0]
            self._zstd = zstd.ZstdDecompressor(
                zstd_dict=dictionary(self._form),
                options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG},
            )
            block = block[1:]
        try:
            data = self._zstd.decompress(block, max_length=bytes_max + 1 + (self._form == PACKED))
            if self._form == PACKED and len(data) <= bytes_max + 1:
                data = self._unpacker.unpack(data)
        except (zstd.ZstdError, EOFError, ColumnsError) as error:
            raise CompressionError(f"not the next block of this stream: {error}") from None
        if len(data) > bytes_max:
            raise CompressionError(f"decompresses to more than the limit of {bytes_max} bytes")
        if self._zstd.unused_data:
            raise CompressionError("unexpected data after the end of the frame")
        return data
