"""Shows a session's desktop to one viewer that speaks RFB, such as noVNC or any VNC viewer."""

from __future__ import annotations

import asyncio
from typing import Final

from datacenter.desktop.receiver import ShownDesktop
from wire.desktop.connection import ByteChannel, converse
from wire.desktop.held_input import HeldInput
from wire.desktop.picture import Area
from wire.desktop.rfb import InputEvent, KeyEvent, PointerEvent
from wire.desktop.rfb_server import (
    SetEncodings,
    SetFormat,
    UpdateRequest,
    ViewerEncoder,
    viewer_handshake,
    viewer_message,
)
from wire.desktop.stream import Update

AREAS_MAX: Final = 64
"""Maximum number of changed areas; more are replaced by their bounding area."""
HANDSHAKE_SECONDS_MAX: Final = 10.0
WRITE_BYTES_MAX: Final = 16 * 1024
WRITE_SECONDS_MAX: Final = 20.0
"""Time for a viewer to accept `WRITE_BYTES_MAX`; after it, the viewer counts as lost, even if its connection is
open."""


class DesktopViewer:
    """One viewer. It receives the changes when it requests an update; a slow viewer skips intermediate pictures."""

    def __init__(self, desktop: ShownDesktop, channel: ByteChannel, name: str, *, has_control: bool) -> None:
        """`name` is shown as the desktop's name. Without control, the viewer's input is dropped."""
        self._desktop, self._channel, self._name = desktop, channel, name
        self._held = HeldInput(has_control=has_control)
        self._encoder = ViewerEncoder()
        self._dirty: list[Area] = []
        self._is_resized = False
        self._is_cursor_due = True
        """Whether the pointer's shape is to be sent."""
        self._shown_note = ""
        self._is_requested = False
        self._wake = asyncio.Event()

    def updated(self, update: Update) -> None:
        """Record the changes of an update (see `datacenter.desktop.receiver.DesktopObserver`)."""
        if update.size is not None:
            self._is_resized = True
            self._dirty = [self._desktop.picture.area]
        self._is_cursor_due |= update.cursor is not None
        self._dirty += [copy.target for copy in update.copies] + [tile.area for tile in update.tiles]
        self._combine()
        self._wake.set()

    async def set_control(self, *, has_control: bool) -> None:
        """Give or take control.

        When control is taken, keys and buttons that the viewer holds down are released. Raises: OSError.
        """
        await self._send_input(self._held.set_control(has_control=has_control))

    async def run(self) -> None:
        """Serve the viewer until its connection ends; release the keys and buttons that it held down.

        Raises: RfbError if it violates the protocol; EOFError, OSError (TimeoutError is one) at the end.
        """
        picture = self._desktop.picture
        async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
            await converse(self._channel, viewer_handshake(picture.width, picture.height, self._name))
        self._size = (picture.width, picture.height)
        self._dirty = [picture.area]
        self._desktop.watch(self)
        writer = asyncio.create_task(self._write())
        try:
            await self._read(writer)
        finally:
            self._desktop.unwatch(self)
            writer.cancel()
            await asyncio.wait((writer,))
            await self._send_input(self._held.release())

    async def _read(self, writer: asyncio.Task[None]) -> None:
        reader = asyncio.create_task(self._read_messages())
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in (writer, reader):
                if task.done():
                    task.result()
        finally:
            reader.cancel()
            await asyncio.wait((reader,))

    async def _read_messages(self) -> None:
        while True:
            message = await converse(self._channel, viewer_message())
            match message:
                case SetFormat(pixel_format):
                    self._encoder.pixel_format = pixel_format
                case SetEncodings(encodings):
                    self._encoder.encodings = encodings
                case UpdateRequest(area, is_incremental):
                    if not is_incremental:
                        self._dirty.append(area)
                        self._combine()
                    self._is_requested = True
                    self._wake.set()
                case KeyEvent() | PointerEvent():
                    await self._send_input(self._held.event(message))

    async def _send_input(self, events: list[InputEvent]) -> None:
        for event in events:
            await self._desktop.send(event)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            is_renamed = self._desktop.note != self._shown_note
            if self._is_requested and (self._dirty or self._is_resized or self._is_cursor_due or is_renamed):
                self._is_requested = False
                await self._write_in_parts(self._next_update())

    async def _write_in_parts(self, data: bytes) -> None:
        for offset in range(0, len(data), WRITE_BYTES_MAX):
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await self._channel.write(data[offset : offset + WRITE_BYTES_MAX])

    def _next_update(self) -> bytes:
        picture = self._desktop.picture
        is_resized = (picture.width, picture.height) != self._size
        self._size, self._is_resized = (picture.width, picture.height), False
        areas = [picture.area] if is_resized else [area.common(picture.area) for area in self._dirty]
        name = None
        if self._desktop.note != self._shown_note:
            self._shown_note = self._desktop.note
            name = self._name + self._shown_note
        cursor = self._desktop.cursor if self._is_cursor_due else None
        self._dirty, self._is_cursor_due = [], False
        return self._encoder.update(
            picture,
            [area for area in areas if area.pixels],
            is_resized=is_resized,
            cursor=cursor,
            name=name,
        )

    def _combine(self) -> None:
        self._dirty = list(dict.fromkeys(self._dirty))
        if len(self._dirty) > AREAS_MAX:
            x, y = min(area.x for area in self._dirty), min(area.y for area in self._dirty)
            right, bottom = max(area.right for area in self._dirty), max(area.bottom for area in self._dirty)
            self._dirty = [Area(x, y, right - x, bottom - y)]
