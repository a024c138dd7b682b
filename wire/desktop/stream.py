"""The stream of a session's pictures, from the box to the data center: its format, and the messages that come back.

The stream begins with a header (`encode_header`). Then each message is a frame (`encode_frame`) with one block of a
zstd stream that lasts as long as the session, so that a block can refer to everything in the last 16 MiB. A block has
one update (`Update`), which changes the decoder's picture: copies within the picture, then tiles of new pixels.
The stream is lossless: after each update the decoder's picture equals the encoder's picture at that update.

Pixels are numbers in a palette that begins empty, grows with each update and is never cleared; once it is full, tiles
with a colour that is not in it have colours instead of numbers. A tile has its pixels column by column, from the
top down: a letter then has the same bytes wherever it is on a line of text. All fields of one kind are together, and
all low bytes of numbers precede the high ones, because that compresses better.

docs/reference/desktop-stream.md describes every byte. Integers are big-endian.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final, NamedTuple, TypeAlias

from wire.desktop.picture import PIXELS_MAX, Area
from wire.desktop.rfb import CursorShape, InputEvent, KeyEvent, PointerEvent, RfbError

MAGIC: Final = b"RAPD"
VERSION: Final = 1
HEADER_BYTES: Final = 4 + 1 + 8
WINDOW_LOG: Final = 24
"""The decoder keeps 2**24 bytes: a tab or a dialog that was shown before costs almost nothing."""
PALETTE_MAX: Final = 1 << 16
TILES_MAX: Final = 4096
COPIES_MAX: Final = 256
UPDATE_BYTES_MAX: Final = 4 * PIXELS_MAX
"""Limit of a decompressed update."""
MESSAGE_BYTES_MAX: Final = UPDATE_BYTES_MAX
"""Limit of a compressed update."""
FRAME: Final = struct.Struct(">II")
"""Before each message: its length, and the time in milliseconds since the start of the stream, by the box's clock."""
CHAIN_BYTES: Final = 32

_COUNTS: Final = struct.Struct(">BHHH")
_SIZE: Final = struct.Struct(">HH")
_CURSOR: Final = struct.Struct(">HHHH")
_COPY: Final = struct.Struct(">6H")
_WIDE, _DIRECT = 1, 2


class DesktopStreamError(ValueError):
    """The stream is invalid: it was damaged, or made by a program that this one does not understand."""


class UpdateNotice(IntFlag):
    """Notices of an update in addition to the picture."""

    NOTHING = 0
    STALLED = 1
    """The VNC server does not respond. Every update has this flag until it responds again."""
    BELL = 2
    VIEW_ONLY = 16
    """Input is dropped for now, because the person's page is lost. Every update has this flag until it returns."""


RAW_STREAM: Final = b"raw tcp\0"
"""Value in a recording's header, instead of the identity of a starting content, if the messages are those of a TCP
service. Each is preceded by its direction and the number of its connection."""
_RESIZED, _WITH_CURSOR = 4, 8
"""The other flags in the head of an update."""


class AreaCopy(NamedTuple):
    """The area at (x, y) is shown at `target` too."""

    target: Area
    x: int
    y: int


class Tile(NamedTuple):
    """New pixels, column by column, as numbers in the palette; or as colours if a number does not exist."""

    area: Area
    pixels: array[int]
    """Unsigned integers: numbers of two bytes (type code H), or colours 0x00RRGGBB of four (type code I)."""

    @property
    def is_direct(self) -> bool:
        """Whether the pixels are colours."""
        return self.pixels.typecode == "I"


@dataclass(slots=True)
class Update:
    """A change of the decoder's picture and palette; applied in the order of the fields."""

    notice: UpdateNotice = UpdateNotice.NOTHING
    size: tuple[int, int] | None = None
    """The picture is reset to black, with this width and height."""
    cursor: CursorShape | None = None
    colours: array[int] = field(default_factory=lambda: array("I"))
    """The next colours of the palette, 0x00RRGGBB."""
    copies: list[AreaCopy] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)

    def encode(self) -> bytes:
        """Return the update before compression."""
        parts = [
            _COUNTS.pack(
                self.notice
                | (_RESIZED if self.size is not None else 0)
                | (_WITH_CURSOR if self.cursor is not None else 0),
                len(self.colours),
                len(self.copies),
                len(self.tiles),
            )
        ]
        if self.size is not None:
            parts.append(_SIZE.pack(*self.size))
        if self.cursor is not None:
            parts += [_CURSOR.pack(*self.cursor[:4]), self.cursor.pixels, self.cursor.mask]
        parts += [_COPY.pack(*copy.target, copy.x, copy.y) for copy in self.copies]
        parts.append(_planes(array("H", [side for tile in self.tiles for side in tile.area])))
        low, high = [], []
        kinds = bytearray()
        for tile in self.tiles:
            planes = _byte_planes(tile.pixels)
            is_wide = tile.is_direct or any(planes[1])
            kinds.append(_DIRECT if tile.is_direct else _WIDE if is_wide else 0)
            low.append(planes[0])
            high += planes[1 : 3 if tile.is_direct else 2] if is_wide else []
        return b"".join([*parts, bytes(kinds), *_byte_planes(self.colours)[:3], *low, *high])


def _byte_planes(values: array[int]) -> list[bytes]:
    """Return the bytes of integers: all low bytes, then all second bytes, and so on."""
    data, size = _little_endian(values).tobytes(), values.itemsize
    return [data[index::size] for index in range(size)]


def _planes(values: array[int]) -> bytes:
    return b"".join(_byte_planes(values))


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values


def _from_planes(typecode: str, planes: list[bytes]) -> array[int]:
    values = array(typecode)
    data = bytearray(values.itemsize * len(planes[0]))
    for index, plane in enumerate(planes):
        data[index :: values.itemsize] = plane
    values.frombytes(bytes(data))
    return _little_endian(values)


class _Reader:
    """Takes parts of a decompressed update."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, length: int) -> bytes:
        part = self._data[self._position : self._position + length]
        if len(part) < length:
            raise DesktopStreamError("an update ends too early")
        self._position += length
        return part

    def planes(self, length: int, count: int) -> list[bytes]:
        return [self.take(length) for _ in range(count)]

    def numbers(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.take(form.size))

    def end(self) -> None:
        if self._position < len(self._data):
            raise DesktopStreamError(f"{len(self._data) - self._position} bytes follow an update")


def parse_update(data: bytes) -> Update:
    """Parse a decompressed update. Areas and numbers may still be outside of picture and palette.

    Raises: DesktopStreamError.
    """
    reader = _Reader(data)
    flags, colours, copies, tiles = reader.numbers(_COUNTS)
    if flags > 31 or copies > COPIES_MAX or tiles > TILES_MAX:
        raise DesktopStreamError(
            f"the head of an update is not valid: flags {flags}, {copies} copies, {tiles} tiles"
        )
    update = Update(UpdateNotice(flags & ~(_RESIZED | _WITH_CURSOR)))
    if flags & _RESIZED:
        width, height = reader.numbers(_SIZE)
        update.size = width, height
    if flags & _WITH_CURSOR:
        width, height, x, y = reader.numbers(_CURSOR)
        try:
            lengths = CursorShape.lengths(width, height)
        except RfbError as error:
            raise DesktopStreamError(str(error)) from None
        update.cursor = CursorShape(width, height, x, y, *map(reader.take, lengths))
    for _ in range(copies):
        *target, x, y = reader.numbers(_COPY)
        update.copies.append(AreaCopy(Area(*target), x, y))
    sides = _from_planes("H", reader.planes(4 * tiles, 2))
    areas = [Area(*sides[index : index + 4]) for index in range(0, len(sides), 4)]
    kinds = reader.take(tiles)
    update.colours = _from_planes("I", reader.planes(colours, 3))
    low = [reader.take(area.pixels) for area in areas]
    for area, kind, plane in zip(areas, kinds, low, strict=True):
        if kind > _DIRECT:
            raise DesktopStreamError(f"unknown kind {kind} of a tile")
        higher = reader.planes(area.pixels, kind)
        update.tiles.append(Tile(area, _from_planes("I" if kind == _DIRECT else "H", [plane, *higher])))
    reader.end()
    return update


def encode_header(warm: bytes) -> bytes:
    """Return the start of a stream; `warm` is the identity of its starting content, eight bytes (0: none)."""
    assert len(warm) == 8
    return MAGIC + bytes([VERSION]) + warm


def parse_header(data: bytes) -> bytes:
    """Return the identity of the starting content. Raises: DesktopStreamError."""
    if len(data) != HEADER_BYTES or not data.startswith(MAGIC):
        raise DesktopStreamError("not the stream of a desktop")
    if data[len(MAGIC)] != VERSION:
        raise DesktopStreamError(
            f"a stream of version {data[len(MAGIC)]}; this program has version {VERSION}"
        )
    return data[len(MAGIC) + 1 :]


def encode_frame(message: bytes, time_ms: int) -> bytes:
    """Return a message as it is sent and recorded."""
    return FRAME.pack(len(message), time_ms) + message


class FrameHead(NamedTuple):
    """The head of a message."""

    length: int
    time_ms: int

    @classmethod
    def parse(cls, data: bytes) -> FrameHead:
        """Parse a frame's head. Raises: DesktopStreamError if the message is too long."""
        head = cls(*FRAME.unpack(data))
        if not 0 < head.length <= MESSAGE_BYTES_MAX:
            raise DesktopStreamError(f"a message of {head.length} bytes; 1 to {MESSAGE_BYTES_MAX} are valid")
        return head


class StreamChain:
    """The hash chain over a stream: SHA-256 of the last value and the header or frame.

    Both ends compute it. A signature of its final value confirms every byte, the order of the bytes, and the end of
    the stream.
    """

    def __init__(self) -> None:
        self.value = bytes(CHAIN_BYTES)

    def add(self, part: bytes) -> None:
        """Add the header or the next frame."""
        self.value = hashlib.sha256(self.value + part).digest()


class Acknowledged(NamedTuple):
    """The data center has applied the first `updates` updates; counted modulo 2**32."""

    updates: int

    def encode(self) -> bytes:
        """Return the message."""
        return b"A" + self.updates.to_bytes(4, "big")


Returned: TypeAlias = Acknowledged | InputEvent
RETURNED_BYTES: Final = {b"A": 4, b"\x04": 7, b"\x05": 5}
"""The messages of the data center by their first byte, and the number of bytes that follow it."""


def parse_returned(kind: bytes, rest: bytes) -> Returned:
    """Parse a message of the data center: an acknowledgement, or an input event in the form of RFB."""
    if kind == b"A":
        return Acknowledged(int.from_bytes(rest, "big"))
    if kind == b"\x04":
        is_down, key = struct.unpack(">BxxI", rest)
        return KeyEvent(key, bool(is_down))
    return PointerEvent(*struct.unpack(">BHH", rest))
