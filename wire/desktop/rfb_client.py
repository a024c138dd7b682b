"""The client's side of RFB 3.8, without I/O: the box's messages to an instrument's VNC server.

The server sends its picture as plain pixels (Raw) and copies: the connection is a local one, and the box compresses
the picture better. Clipboard texts are dropped. A message of another type ends the connection, because its length is
unknown.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from wire.desktop.picture import SIDE_MAX, Area, Picture, PictureError
from wire.desktop.rfb import (
    NAME_BYTES_MAX,
    NATIVE,
    RECEIVE_BYTES_MAX,
    VERSION,
    Conversation,
    CursorShape,
    Encoding,
    RfbError,
    Security,
    receive_in_parts,
    skip,
    skip_clipboard,
)

ENCODINGS: Final = (
    Encoding.COPY_RECT,
    Encoding.RAW,
    Encoding.CURSOR,
    Encoding.DESKTOP_SIZE,
    Encoding.EXTENDED_DESKTOP_SIZE,
)
SCREENS_MAX: Final = 16


class ServerInit(NamedTuple):
    """The server's desktop at the beginning."""

    width: int
    height: int
    name: str


@dataclass(slots=True)
class DesktopChange:
    """The changes of one server message. The pixels are in the reader's picture."""

    is_update: bool = False
    """Whether the message answers a request.

    It may have no pixels, like TigerVNC's first response to a full request.
    """
    areas: list[Area] = field(default_factory=list)
    is_resized: bool = False
    cursor: CursorShape | None = None
    is_bell: bool = False


def handshake(password: bytes = b"") -> Conversation[ServerInit]:
    """Begin a connection. The password is for servers that require VNC authentication.

    Raises:
        RfbError: the server does not speak RFB 3.8, refuses, or requires another authentication.
    """
    version = yield len(VERSION)
    if not version.startswith(b"RFB 003.") or version < VERSION or version[-1:] != b"\n":
        raise RfbError(f"the server's version is {_shown(version)}; RFB 003.008 is supported")
    yield VERSION
    yield from _authenticate(password)
    yield b"\x01"  # share the desktop with other clients, such as a screen at the instrument
    width, height = struct.unpack(">HH", (yield 4))
    yield 16  # the server's pixel format, which the first messages replace
    length = int.from_bytes((yield 4), "big")
    if length > NAME_BYTES_MAX:
        raise RfbError(f"the desktop's name has {length} bytes; at most {NAME_BYTES_MAX} are accepted")
    name = ((yield length) if length else b"").decode("utf-8", "replace")
    yield b"\x00\x00\x00\x00" + NATIVE.encode()
    yield struct.pack(f">BxH{len(ENCODINGS)}i", 2, len(ENCODINGS), *ENCODINGS)
    return ServerInit(width, height, "".join(character for character in name if character.isprintable()))


def _authenticate(password: bytes) -> Conversation[None]:
    count = (yield 1)[0]
    if not count:
        raise RfbError(f"the server refuses the connection: {yield from _reason()}")
    offered = yield count
    if Security.NONE in offered:
        yield bytes([Security.NONE])
    elif Security.VNC in offered:
        if not password:
            raise RfbError("the server requires a password (VNC authentication), and none is configured")
        yield bytes([Security.VNC])
        challenge = yield 16
        yield vnc_response(password, challenge)
    else:
        raise RfbError(
            f"the server offers the security types {sorted(offered)}; {Security.NONE:d} (none) and "
            f"{Security.VNC:d} (VNC authentication) are supported"
        )
    if int.from_bytes((yield 4), "big"):
        raise RfbError(f"the server refuses the authentication: {yield from _reason()}")


def _reason() -> Conversation[str]:
    length = int.from_bytes((yield 4), "big")
    if length <= NAME_BYTES_MAX:
        return _shown((yield length) if length else b"")
    yield from skip(length, "a reason")
    return "a long text"


def _shown(data: bytes) -> str:
    return repr(data.decode("utf-8", "replace"))


def vnc_response(password: bytes, challenge: bytes) -> bytes:
    """Return the response of VNC authentication: the challenge, encrypted by DES with the password as key.

    The bits of each byte of the key are reversed, and only its first eight bytes count (RFC 6143, section 7.2.2, and
    its erratum 4951).
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    try:
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    except ImportError:  # before version 43
        from cryptography.hazmat.primitives.ciphers.algorithms import TripleDES

    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password[:8].ljust(8, b"\0"))
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(challenge) + encryptor.finalize()


def update_request(area: Area, *, incremental: bool) -> bytes:
    """Return the request for the pixels of an area: when some have changed (incremental), or immediately."""
    return struct.pack(">BBHHHH", 3, incremental, *area)


class ServerMessages:
    """Reads the server's messages into a picture."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        """The desktop. A change of its size replaces the picture with a black one."""

    def message(self) -> Conversation[DesktopChange]:
        """Receive one message. Raises: RfbError; the picture may then have a part of the message."""
        kind = (yield 1)[0]
        if kind == 0:
            return (yield from self._update())
        if kind == 2:
            return DesktopChange(is_bell=True)
        if kind == 3:
            (announced,) = struct.unpack(">3xi", (yield 7))
            yield from skip_clipboard(announced)
            return DesktopChange()
        raise RfbError(f"the server sent a message of the type {kind}, which was not agreed on")

    def _update(self) -> Conversation[DesktopChange]:
        change = DesktopChange(is_update=True)
        (count,) = struct.unpack(">xH", (yield 3))
        for _ in range(count):
            *corners, encoding = struct.unpack(">HHHHi", (yield 12))
            area = Area(*corners)
            try:
                yield from self._rectangle(area, encoding, change)
            except PictureError as error:
                raise RfbError(f"the server sent a rectangle that is not valid: {error}") from None
        return change

    def _rectangle(self, area: Area, encoding: int, change: DesktopChange) -> Conversation[None]:
        if encoding == Encoding.RAW:
            yield from self._raw(area)
            change.areas.append(area)
        elif encoding == Encoding.COPY_RECT:
            x, y = struct.unpack(">HH", (yield 4))
            self.picture.copy_within(area, x, y)
            change.areas.append(area)
        elif encoding == Encoding.CURSOR:
            change.cursor = yield from _cursor(area)
        elif encoding == Encoding.DESKTOP_SIZE:
            self._resize(area, change)
        elif encoding == Encoding.EXTENDED_DESKTOP_SIZE:
            count = (yield 4)[0]
            if count > SCREENS_MAX:
                raise RfbError(f"the server has {count} screens; at most {SCREENS_MAX} are supported")
            yield from receive_in_parts(16 * count)
            self._resize(area, change)
        else:
            raise RfbError(f"the server sent a rectangle in the encoding {encoding}, which was not agreed on")

    def _resize(self, area: Area, change: DesktopChange) -> None:
        if (area.width, area.height) != (self.picture.width, self.picture.height):
            self.picture = Picture(area.width, area.height)
            change.areas.clear()
            change.is_resized = True

    def _raw(self, area: Area) -> Conversation[None]:
        self.picture.require(area)
        if not area.pixels:
            return
        rows = max(1, RECEIVE_BYTES_MAX // (4 * area.width))
        for y in range(area.y, area.bottom, rows):
            part = Area(area.x, y, area.width, min(rows, area.bottom - y))
            data = bytearray((yield 4 * part.pixels))
            data[3::4] = bytes(part.pixels)  # servers may send anything in the fourth byte
            self.picture.write(part, data)


def _cursor(area: Area) -> Conversation[CursorShape]:
    pixels_length, mask_length = CursorShape.lengths(area.width, area.height)
    pixels = bytearray((yield from receive_in_parts(pixels_length)))
    pixels[3::4] = bytes(area.pixels)
    mask = yield from receive_in_parts(mask_length)
    return CursorShape(area.width, area.height, area.x, area.y, bytes(pixels), mask)


assert 4 * SIDE_MAX <= RECEIVE_BYTES_MAX, "a row is received at once"
