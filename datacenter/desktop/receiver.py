"""Receives the desktop of a session from the box: records it, decodes it, acknowledges it, and informs viewers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from datacenter.desktop.decoder import PictureDecoder
from datacenter.desktop.recording import find_warm
from wire.desktop.connection import ByteChannel
from wire.desktop.picture import Picture
from wire.desktop.rfb import CursorShape, InputEvent
from wire.desktop.stream import (
    FRAME,
    HEADER_BYTES,
    Acknowledged,
    FrameHead,
    Update,
    UpdateNotice,
    parse_header,
)
from wire.desktop.warm import WarmContent


class StreamRecorder(Protocol):
    """Keeps the stream, as `datacenter.desktop.recording.RecordingWriter` does."""

    def add(self, part: bytes) -> None:
        """Add the header or a frame. Raises: OSError."""
        ...


NOTES: Final = {
    UpdateNotice.STALLED: " (stalled: the instrument does not respond)",
    UpdateNotice.VIEW_ONLY: " (view only: the page at the instrument is lost)",
}
"""Notes for viewers; the first that applies is shown."""


class DesktopObserver(Protocol):
    """An object that is informed about updates."""

    def updated(self, update: Update) -> None:
        """Handle a changed picture."""
        ...


class ShownDesktop(Protocol):
    """A desktop for viewers: of a live session, or of a recording."""

    @property
    def picture(self) -> Picture:
        """The present picture."""
        ...

    @property
    def cursor(self) -> CursorShape | None:
        """The shape of the pointer, if it is known."""
        ...

    @property
    def note(self) -> str:
        """A note that viewers append to the desktop's name, which they show as a title; often empty."""
        ...

    def watch(self, observer: DesktopObserver) -> None:
        """Inform an observer from now on."""
        ...

    def unwatch(self, observer: DesktopObserver) -> None:
        """Stop informing an observer."""
        ...

    async def send(self, event: InputEvent) -> None:
        """Handle a key or the pointer of a viewer. Raises: OSError."""
        ...


class DecodedDesktop:
    """The part of a `ShownDesktop` that live streams and recordings share."""

    def __init__(self, decoder: PictureDecoder) -> None:
        self._decoder = decoder
        self._observers: set[DesktopObserver] = set()

    @property
    def picture(self) -> Picture:
        """The present picture."""
        return self._decoder.picture

    @property
    def cursor(self) -> CursorShape | None:
        """The shape of the pointer, if the VNC server has sent one."""
        return self._decoder.cursor

    def watch(self, observer: DesktopObserver) -> None:
        """Inform an observer from now on."""
        self._observers.add(observer)

    def unwatch(self, observer: DesktopObserver) -> None:
        """Stop informing an observer."""
        self._observers.discard(observer)

    def _inform(self, update: Update) -> None:
        for observer in tuple(self._observers):
            observer.updated(update)


class DesktopReceiver(DecodedDesktop):
    """One session's desktop at the data center."""

    def __init__(
        self, channel: ByteChannel, recorder: StreamRecorder, known: Mapping[bytes, WarmContent] | None = None
    ) -> None:
        """`channel` is the connection to the box, `known` are the starting contents by identity."""
        super().__init__(PictureDecoder())
        self._channel, self._recorder, self._known = channel, recorder, known or {}
        self._updates = 0

    @property
    def is_stalled(self) -> bool:
        """Whether the VNC server does not respond."""
        return UpdateNotice.STALLED in self._decoder.notice

    @property
    def note(self) -> str:
        """See `ShownDesktop.note`."""
        notice = self._decoder.notice
        return next((text for flag, text in NOTES.items() if flag in notice), "")

    @property
    def updates(self) -> int:
        """The number of updates so far; 0: there is no picture."""
        return self._updates

    async def send(self, event: InputEvent) -> None:
        """Send an input event to the box, which drops it unless the session has control. Raises: OSError."""
        await self._channel.write(event.encode())

    async def run(self) -> None:
        """Receive until the connection ends. What cannot be recorded is not shown.

        Raises: EOFError at the end; DesktopStreamError; OSError of the connection or of the recorder.
        """
        header = await self._channel.read_exactly(HEADER_BYTES)
        self._decoder = PictureDecoder(find_warm(parse_header(header), self._known))
        self._recorder.add(header)
        while True:
            head = await self._channel.read_exactly(FRAME.size)
            message = await self._channel.read_exactly(FrameHead.parse(head).length)
            self._recorder.add(head + message)
            update = self._decoder.apply(message)
            self._updates += 1
            await self._channel.write(Acknowledged(self._updates % 2**32).encode())
            self._inform(update)
