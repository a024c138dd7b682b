"""The desktop of a simulated instrument: a VNC server with a small screen, whose pointer draws while pressed."""

from __future__ import annotations

import asyncio
from typing import Final

from settings.profile import DesktopScreen
from sim.engine.layers import End, Layers
from wire.desktop.connection import TcpChannel, converse
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import InputEvent, KeyEvent, PointerEvent, RfbError
from wire.desktop.rfb_server import (
    SetEncodings,
    SetFormat,
    UpdateRequest,
    ViewerEncoder,
    viewer_handshake,
    viewer_message,
)

SIZE: Final = (160, 96)
"""The screen of a model whose profile does not describe it."""
MARK: Final = 8
"""The side of a mark, in pixels."""
_BACKGROUND: Final = b"\xd0\xc8\xc0\x00"
_INKS: Final = (b"\x20\x20\xa0\x00", b"\x20\xa0\x20\x00", b"\xa0\x20\x20\x00")
"""Used in turn, so that a stroke changes the picture even where it covers an earlier one."""


class InstrumentDesktop:
    """The displayed screen, and the pressed keys and buttons."""

    def __init__(self, screen: DesktopScreen | None = None) -> None:
        """`screen` is that of the instrument's profile."""
        width, height = screen.size if screen is not None else SIZE
        self._picture = Picture(width, height)
        self._picture.write(self._picture.area, _BACKGROUND * (width * height))
        self.keys: set[int] = set()
        """The keys that are pressed, as keysyms of X11."""
        self.buttons = 0
        """The mask of the pressed buttons."""
        self.strokes = 0
        self.viewers = 0
        """The number of open connections."""
        self.left_pressed: list[str] = []
        """Keys and buttons that were pressed when a viewer closed its connection, and that the server released."""
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._frozen = Layers[None](self._update_thawed)

    @property
    def pressed(self) -> str:
        """Description of the pressed keys and buttons; "" if there are none."""
        held = [f"key {key:#x}" for key in sorted(self.keys)]
        return ", ".join([*held, *(["a button"] if self.buttons else [])])

    def freeze(self) -> End:
        """Neither read nor answer until every such effect has ended."""
        return self._frozen.add(None)

    def _update_thawed(self) -> None:
        (self._thawed.clear if self._frozen else self._thawed.set)()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one viewer until its connection ends."""
        channel, encoder, strokes_sent = TcpChannel(reader, writer), ViewerEncoder(), -1
        requested: Area | None = None
        self.viewers += 1
        try:
            await self._thawed.wait()
            await converse(channel, viewer_handshake(self._picture.width, self._picture.height, "analyzer"))
            while True:
                if requested is not None and strokes_sent < self.strokes:
                    writer.write(encoder.update(self._picture, [requested]))
                    requested, strokes_sent = None, self.strokes
                message = await converse(channel, viewer_message())
                await self._thawed.wait()
                match message:
                    case SetFormat(pixel_format):
                        encoder.pixel_format = pixel_format
                    case SetEncodings(encodings):
                        encoder.encodings = encodings
                    case UpdateRequest(area, is_incremental):
                        requested, strokes_sent = area, strokes_sent if is_incremental else -1
                    case KeyEvent() | PointerEvent():
                        self._handle_input(message)
        except EOFError:
            if self.pressed:
                self.left_pressed.append(self.pressed)
        except (OSError, RfbError):
            pass  # the viewer was killed
        finally:
            self.viewers -= 1
            self.keys.clear()
            self.buttons = 0
            writer.close()

    def _handle_input(self, event: InputEvent) -> None:
        match event:
            case KeyEvent(key, is_down):
                (self.keys.add if is_down else self.keys.discard)(key)
            case PointerEvent(buttons, x, y):
                if buttons:
                    self.strokes += 1
                    self._mark(x, y)
                self.buttons = buttons

    def _mark(self, x: int, y: int) -> None:
        screen = self._picture.area
        area = Area(max(0, min(x, screen.width - MARK)), max(0, min(y, screen.height - MARK)), MARK, MARK)
        self._picture.write(area, _INKS[self.strokes % len(_INKS)] * area.pixels)
