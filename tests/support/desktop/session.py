"""A desktop session on loopback: a VNC server, the box's bridge, the data center's receiver, and viewers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from agents.box.desktop.bridge import DesktopBridge
from datacenter.desktop.receiver import DesktopReceiver, ShownDesktop
from datacenter.desktop.recording import RecordingWriter
from datacenter.desktop.viewer import DesktopViewer
from wire.desktop.connection import TcpChannel, converse
from wire.desktop.picture import Picture
from wire.desktop.rfb_client import DesktopChange, ServerMessages, handshake, update_request
from wire.desktop.warm import WarmContent


async def channel_pair() -> tuple[TcpChannel, TcpChannel]:
    """Return two ends of a TCP connection on loopback."""
    accepted: asyncio.Future[TcpChannel] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(TcpChannel(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        near = TcpChannel(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        return near, await accepted
    finally:
        server.close()


@dataclass
class DesktopSession:
    """The parts of a session."""

    bridge: DesktopBridge
    receiver: DesktopReceiver
    recording: io.BytesIO
    writer: RecordingWriter
    box: asyncio.Task[None]
    datacenter: asyncio.Task[None]
    line: TcpChannel
    """The data center's end of the line."""

    async def has(self, picture: Picture) -> bool:
        """Return whether the data center shows this picture."""
        return self.receiver.picture == picture


@asynccontextmanager
async def desktop_session(
    server: TcpChannel,
    *,
    has_control: bool = True,
    bytes_per_second: float = 10_000_000,
    known: Mapping[bytes, WarmContent] | None = None,
    **options: Any,
) -> AsyncIterator[DesktopSession]:
    """Run a session whose box is connected to a VNC server; both ends stop with the block."""
    box_end, datacenter_end = await channel_pair()
    bridge = DesktopBridge(
        server, box_end, has_control=has_control, bytes_per_second=bytes_per_second, **options
    )
    recording = io.BytesIO()
    writer = RecordingWriter(recording)
    receiver = DesktopReceiver(datacenter_end, writer, known)
    box, datacenter = asyncio.create_task(bridge.run()), asyncio.create_task(receiver.run())
    try:
        yield DesktopSession(bridge, receiver, recording, writer, box, datacenter, datacenter_end)
    finally:
        for task in (box, datacenter):
            task.cancel()
        await asyncio.wait([box, datacenter])
        for channel in (server, box_end, datacenter_end):
            channel.writer.close()


@dataclass
class RfbViewer:
    """A viewer that requests changes all the time."""

    messages: ServerMessages
    channel: TcpChannel
    changes: list[DesktopChange]

    @property
    def picture(self) -> Picture:
        return self.messages.picture

    async def run(self) -> None:
        incremental = False
        while True:
            request = update_request(self.picture.area, incremental=incremental)
            await self.channel.write(request)
            self.changes.append(await converse(self.channel, self.messages.message()))
            incremental = not self.changes[-1].is_resized


@asynccontextmanager
async def rfb_viewer(
    desktop: ShownDesktop, *, has_control: bool = True
) -> AsyncIterator[tuple[RfbViewer, DesktopViewer]]:
    """Yield a viewer of the session."""
    near, far = await channel_pair()
    served = DesktopViewer(desktop, far, "AU-Sim 5800", has_control=has_control)
    task = asyncio.create_task(served.run())
    init = await converse(near, handshake())
    viewer = RfbViewer(ServerMessages(Picture(init.width, init.height)), near, [])
    running = asyncio.create_task(viewer.run())
    try:
        yield viewer, served
    finally:
        running.cancel()
        near.writer.close()
        await asyncio.wait((running, task))
        with suppress(EOFError, OSError):
            task.result()
        far.writer.close()
