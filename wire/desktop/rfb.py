"""Shared parts of both sides of RFB (the protocol of VNC): conversations, numbers, pixel formats, input events.

Source: RFC 6143, and the community's specification (rfbproto) for pseudo-encodings. Only version 3.8 is spoken.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")

Conversation: TypeAlias = Generator[int | bytes, bytes, T]
"""A part of the protocol without I/O: `yield` of bytes sends them, `yield` of an integer receives that number of
bytes.

No conversation requests more than `RECEIVE_BYTES_MAX` at a time, regardless of the length that the peer announces.
"""
RECEIVE_BYTES_MAX: Final = 64 * 1024
VERSION: Final = b"RFB 003.008\n"
NAME_BYTES_MAX: Final = 1024
"""Longest accepted name of a desktop."""
TEXT_BYTES_MAX: Final = 1024 * 1024
"""Longest text (clipboard, reason of a refusal) that is skipped; a longer one is an error."""
CURSOR_SIDE_MAX: Final = 256
ENCODINGS_MAX: Final = 1024


class RfbError(Exception):
    """The peer violates the protocol, or requires an unsupported feature. The connection must be closed."""


class Encoding(IntEnum):
    """The encodings and pseudo-encodings of rectangles that are used."""

    RAW = 0
    COPY_RECT = 1
    TIGHT = 7
    DESKTOP_SIZE = -223
    CURSOR = -239
    DESKTOP_NAME = -307
    EXTENDED_DESKTOP_SIZE = -308


class Security(IntEnum):
    """The security types that are used."""

    NONE = 1
    VNC = 2


class KeyEvent(NamedTuple):
    """A key pressed or released; `key` is a keysym of X11."""

    key: int
    is_down: bool

    def encode(self) -> bytes:
        """Return the message of a client."""
        return struct.pack(">BBxxI", 4, self.is_down, self.key)


class PointerEvent(NamedTuple):
    """The position of the pointer; bit n of `buttons` is set while button n + 1 is pressed."""

    buttons: int
    x: int
    y: int

    def encode(self) -> bytes:
        """Return the message of a client."""
        return struct.pack(">BBHH", 5, self.buttons, self.x, self.y)


InputEvent: TypeAlias = KeyEvent | PointerEvent


class CursorShape(NamedTuple):
    """The shape of the pointer: its pixels (four bytes each, as of a `Picture`), and a bit for each visible one.

    A row of the mask begins with the highest bit of a byte. The hotspot, shown at the pointer's position, is (x, y).
    """

    width: int
    height: int
    x: int
    y: int
    pixels: bytes
    mask: bytes

    @classmethod
    def lengths(cls, width: int, height: int) -> tuple[int, int]:
        """Return the number of bytes of `pixels` and of `mask`. Raises: RfbError if the shape is too large."""
        if not (0 <= width <= CURSOR_SIDE_MAX and 0 <= height <= CURSOR_SIDE_MAX):
            raise RfbError(
                f"a pointer of {width}×{height} pixels; at most {CURSOR_SIDE_MAX}×{CURSOR_SIDE_MAX} are supported"
            )
        return 4 * width * height, (width + 7) // 8 * height


class PixelFormat(NamedTuple):
    """The format of sent pixels: four bytes, with one byte for each colour at the position that its shift gives."""

    red: int
    green: int
    blue: int
    """Index of the colour's byte, 0 to 3."""

    @classmethod
    def parse(cls, data: bytes) -> PixelFormat:
        """Parse the 16 bytes of a pixel format. Raises: RfbError if pixels are not of four bytes in true colour."""
        bits, _depth, is_big_endian, is_true, *rest = struct.unpack(">BBBBHHHBBB3x", data)
        maxima, shifts = rest[:3], rest[3:]
        if bits != 32 or not is_true or maxima != [255] * 3:
            raise RfbError(
                f"a pixel format of {bits} bits with the maxima {maxima} is not supported; set the viewer to "
                "full colour (32 bits for each pixel, 8 for each colour)"
            )
        if sorted(shift // 8 for shift in shifts) not in ([0, 1, 2], [1, 2, 3]) or any(
            shift % 8 for shift in shifts
        ):
            raise RfbError(
                f"a pixel format with the shifts {shifts} is not supported; shifts of whole bytes are"
            )
        indexes = [3 - shift // 8 if is_big_endian else shift // 8 for shift in shifts]
        return cls(*indexes)

    def encode(self) -> bytes:
        """Return the 16 bytes of the pixel format."""
        return struct.pack(
            ">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 8 * self.red, 8 * self.green, 8 * self.blue
        )

    def from_picture(self, data: bytes) -> bytes:
        """Convert pixels of a `Picture` into this format."""
        if self == NATIVE:
            return data
        converted = bytearray(len(data))
        converted[self.blue :: 4], converted[self.green :: 4], converted[self.red :: 4] = (
            data[index::4] for index in range(3)
        )
        return bytes(converted)


NATIVE: Final = PixelFormat(red=2, green=1, blue=0)
"""The format of a `Picture`."""


def receive_in_parts(length: int) -> Conversation[bytes]:
    """Receive `length` bytes, which the caller has limited."""
    parts = []
    while length:
        part = yield min(length, RECEIVE_BYTES_MAX)
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def skip(length: int, description: str) -> Conversation[None]:
    """Receive `length` bytes and discard them. Raises: RfbError if there are more than `TEXT_BYTES_MAX`."""
    if length > TEXT_BYTES_MAX:
        raise RfbError(f"{description} of {length} bytes; at most {TEXT_BYTES_MAX} are accepted")
    while length:
        length -= len((yield min(length, RECEIVE_BYTES_MAX)))


def skip_clipboard(announced: int) -> Conversation[None]:
    """Skip the text of a clipboard message; its announced length is negative for an extended clipboard."""
    yield from skip(abs(announced), "a clipboard")
