"""A VNC viewer that requests Tight encoding as noVNC does, and counts bytes without decoding them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from wire.desktop.connection import TcpChannel, converse
from wire.desktop.picture import Area
from wire.desktop.rfb import Conversation, CursorShape, Encoding, RfbError, receive_in_parts
from wire.desktop.rfb_client import handshake, update_request

NOVNC: Final = (1, 7, 5, 2, 0, -32 + 6, -256 + 2, -223, -224, -239, -308)
"""The encodings that noVNC requests by default: Tight with JPEG of quality 6, compression 2."""
LOSSLESS: Final = (1, 7, 0, -256 + 9, -223, -224, -239, -308)
"""Tight without JPEG, compression 9."""
_LAST_RECT: Final = -224
_FILL, _JPEG = 8, 9
_PALETTE_FILTER: Final = 1
_UNCOMPRESSED_BYTES: Final = 12


class TightViewer:
    """Requests updates all the time; `shown` is called with each rectangle when it has arrived."""

    def __init__(
        self, channel: TcpChannel, encodings: Sequence[int], shown: Callable[[Area], object] = lambda _: None
    ) -> None:
        self._channel, self._encodings, self._shown = channel, encodings, shown
        self.bytes = 0

    async def run(self) -> None:
        """Request and count updates until cancelled."""
        init = await converse(self._channel, handshake())
        encodings = struct.pack(f">BxH{len(self._encodings)}i", 2, len(self._encodings), *self._encodings)
        screen = Area(0, 0, init.width, init.height)
        await self._channel.write(encodings + update_request(screen, incremental=False))
        while True:
            if await converse(self._channel, self._count(self._message())):
                await self._channel.write(update_request(screen, incremental=True))

    def _count(self, conversation: Conversation[bool]) -> Conversation[bool]:
        data = b""
        step = next(conversation)
        try:
            while True:
                data = yield step
                self.bytes += len(data)
                step = conversation.send(data)
        except StopIteration as stop:
            result: bool = stop.value
            return result

    def _message(self) -> Conversation[bool]:
        kind = (yield 1)[0]
        if kind == 3:
            yield from receive_in_parts(struct.unpack(">3xI", (yield 7))[0])
        if kind != 0:
            return False
        (count,) = struct.unpack(">xH", (yield 3))
        for _ in range(count):
            *corners, encoding = struct.unpack(">HHHHi", (yield 12))
            if encoding == _LAST_RECT:
                break
            area = Area(*corners)
            yield from _rectangle(area, encoding)
            self._shown(area)
        return True


def _rectangle(area: Area, encoding: int) -> Conversation[None]:
    if encoding == Encoding.RAW:
        yield from receive_in_parts(4 * area.pixels)
    elif encoding == Encoding.COPY_RECT:
        yield 4
    elif encoding == Encoding.TIGHT:
        yield from _tight(area)
    elif encoding == Encoding.CURSOR:
        yield from receive_in_parts(sum(CursorShape.lengths(area.width, area.height)))
    elif encoding == Encoding.EXTENDED_DESKTOP_SIZE:
        yield from receive_in_parts(16 * (yield 4)[0])
    elif encoding != Encoding.DESKTOP_SIZE:
        raise RfbError(f"unexpected encoding {encoding}")


def _tight(area: Area) -> Conversation[None]:
    control = (yield 1)[0] >> 4
    if control == _FILL:
        yield 3
        return
    if control == _JPEG:
        yield from receive_in_parts((yield from _length()))
        return
    size = 3 * area.pixels
    if control & 4 and (yield 1)[0] == _PALETTE_FILTER:
        colours = (yield 1)[0] + 1
        yield from receive_in_parts(3 * colours)
        size = area.pixels if colours > 2 else (area.width + 7) // 8 * area.height
    yield from receive_in_parts(size if size < _UNCOMPRESSED_BYTES else (yield from _length()))


def _length() -> Conversation[int]:
    length = shift = 0
    for index in range(3):
        byte = (yield 1)[0]
        length |= (byte if index == 2 else byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return length
