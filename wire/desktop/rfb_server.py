"""The server's side of RFB 3.8, without I/O: the data center's messages to a viewer such as noVNC.

The viewer has been authenticated before, by its web session or its certificate. Its clipboard is dropped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import (
    ENCODINGS_MAX,
    NATIVE,
    VERSION,
    Conversation,
    CursorShape,
    Encoding,
    InputEvent,
    KeyEvent,
    PixelFormat,
    PointerEvent,
    RfbError,
    Security,
    receive_in_parts,
    skip_clipboard,
)

_TIGHT_WIDTH_MAX: Final = 2048
_TIGHT_PIXELS_MAX: Final = 256 * 1024
_TIGHT_BASIC: Final = b"\x00"
"""Basic compression with stream 0 and no filter."""
_TIGHT_UNCOMPRESSED_BYTES: Final = 12
"""Minimum length of compressed data; shorter data is sent uncompressed."""


class UpdateRequest(NamedTuple):
    """The viewer requests the changed pixels of an area, or all."""

    area: Area
    is_incremental: bool


class SetFormat(NamedTuple):
    """The viewer chooses the format of pixels."""

    pixel_format: PixelFormat


class SetEncodings(NamedTuple):
    """The viewer lists the encodings that it understands."""

    encodings: frozenset[int]


class ClipboardDropped(NamedTuple):
    """The viewer sent its clipboard, which was dropped."""


ViewerMessage: TypeAlias = UpdateRequest | SetFormat | SetEncodings | ClipboardDropped | InputEvent


def viewer_handshake(width: int, height: int, name: str) -> Conversation[None]:
    """Begin a connection of a viewer. Raises: RfbError if it does not speak RFB 3.8 without authentication."""
    yield VERSION
    version = yield len(VERSION)
    if version != VERSION:
        raise RfbError(f"the viewer's version is {version!r}; RFB 003.008 is supported")
    yield bytes([1, Security.NONE])
    chosen = (yield 1)[0]
    if chosen != Security.NONE:
        reason = b"only the security type 1 (none) is offered"
        yield struct.pack(">II", 1, len(reason)) + reason
        raise RfbError(f"the viewer chose the security type {chosen}, which is not offered")
    yield bytes(4)
    yield 1  # whether the viewer shares the desktop: the session decides
    encoded = name.encode()
    yield struct.pack(">HH", width, height) + NATIVE.encode() + len(encoded).to_bytes(4, "big") + encoded


def viewer_message() -> Conversation[ViewerMessage]:
    """Receive one message of a viewer. Raises: RfbError."""
    kind = (yield 1)[0]
    if kind == 0:
        return SetFormat(PixelFormat.parse((yield 19)[3:]))
    if kind == 2:
        (count,) = struct.unpack(">xH", (yield 3))
        if count > ENCODINGS_MAX:
            raise RfbError(f"the viewer lists {count} encodings; at most {ENCODINGS_MAX} are accepted")
        data = yield from receive_in_parts(4 * count)
        return SetEncodings(frozenset(struct.unpack(f">{count}i", data)))
    if kind == 3:
        is_incremental, *area = struct.unpack(">BHHHH", (yield 9))
        return UpdateRequest(Area(*area), bool(is_incremental))
    if kind == 4:
        is_down, key = struct.unpack(">BxxI", (yield 7))
        return KeyEvent(key, bool(is_down))
    if kind == 5:
        return PointerEvent(*struct.unpack(">BHH", (yield 5)))
    if kind == 6:
        (announced,) = struct.unpack(">3xi", (yield 7))
        yield from skip_clipboard(announced)
        return ClipboardDropped()
    raise RfbError(f"the viewer sent a message of the type {kind}, which was not agreed on")


@dataclass
class ViewerEncoder:
    """Encodes updates for one viewer: Tight without loss if the viewer understands it, otherwise Raw.

    The compression of Tight continues from one rectangle to the next: send everything that is encoded, in order.
    """

    pixel_format: PixelFormat = NATIVE
    encodings: Collection[int] = ()
    _zlib: zlib._Compress = field(default_factory=lambda: zlib.compressobj(1))

    def update(
        self,
        picture: Picture,
        areas: Iterable[Area],
        *,
        is_resized: bool = False,
        cursor: CursorShape | None = None,
        name: str | None = None,
    ) -> bytes:
        """Return the message that shows areas of the picture, its new size, the pointer's shape and the name.

        Raises:
            RfbError: the size has changed, and the viewer does not understand changes.
        """
        rectangles = []
        if name is not None and Encoding.DESKTOP_NAME in self.encodings:
            encoded = name.encode()
            text = len(encoded).to_bytes(4, "big") + encoded
            rectangles.append(_rectangle(Area(0, 0, 0, 0), Encoding.DESKTOP_NAME, text))
        if is_resized:
            if Encoding.DESKTOP_SIZE not in self.encodings:
                raise RfbError("the desktop's size has changed, and the viewer does not support this")
            rectangles.append(_rectangle(picture.area, Encoding.DESKTOP_SIZE))
        if cursor is not None and Encoding.CURSOR in self.encodings:
            pixels = self.pixel_format.from_picture(cursor.pixels)
            shape = Area(cursor.x, cursor.y, cursor.width, cursor.height)
            rectangles.append(_rectangle(shape, Encoding.CURSOR, pixels + cursor.mask))
        for area in areas:
            rectangles += self._pixels(picture, area)
        return struct.pack(">BxH", 0, len(rectangles)) + b"".join(rectangles)

    def _pixels(self, picture: Picture, area: Area) -> list[bytes]:
        if Encoding.TIGHT not in self.encodings:
            data = self.pixel_format.from_picture(picture.read(area))
            return [_rectangle(area, Encoding.RAW, data)]
        return [
            _rectangle(part, Encoding.TIGHT, self._tight(picture.read(part)))
            for x in range(area.x, area.right, _TIGHT_WIDTH_MAX)
            for part in _bands(area._replace(x=x, width=min(_TIGHT_WIDTH_MAX, area.right - x)))
        ]

    def _tight(self, data: bytes) -> bytes:
        colours = bytearray(len(data) // 4 * 3)
        colours[0::3], colours[1::3], colours[2::3] = data[2::4], data[1::4], data[0::4]
        if len(colours) < _TIGHT_UNCOMPRESSED_BYTES:
            return _TIGHT_BASIC + bytes(colours)
        compressed = self._zlib.compress(colours) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return _TIGHT_BASIC + _compact_length(len(compressed)) + compressed


def _bands(area: Area) -> list[Area]:
    rows = max(1, _TIGHT_PIXELS_MAX // max(1, area.width))
    return [area._replace(y=y, height=min(rows, area.bottom - y)) for y in range(area.y, area.bottom, rows)]


def _compact_length(length: int) -> bytes:
    """Return the length of compressed data: seven bits, seven bits and eight bits, the lowest first."""
    if length < 1 << 7:
        return bytes([length])
    if length < 1 << 14:
        return bytes([length & 127 | 128, length >> 7])
    return bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])


def _rectangle(area: Area, encoding: Encoding, data: bytes = b"") -> bytes:
    return struct.pack(">HHHHi", *area, encoding) + data
