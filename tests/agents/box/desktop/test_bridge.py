"""The bridge between TigerVNC and the data center's receiver."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from agents.box.desktop.bridge import DesktopBridge, DesktopEndedError
from tests.support.desktop.screens import Analyzer, to_picture
from tests.support.desktop.session import DesktopSession, channel_pair, desktop_session, rfb_viewer
from tests.support.desktop.vnc_server import VncServer, vnc_server
from tests.support.desktop.x11 import FullWindow, XEvent
from tests.support.eventually import eventually
from wire.desktop.connection import TcpChannel, converse
from wire.desktop.rfb import NATIVE, KeyEvent, PointerEvent
from wire.desktop.rfb_server import SetFormat, UpdateRequest, viewer_handshake, viewer_message

A, CONTROL = 0x61, 0xFFE3


async def connect(server: VncServer) -> TcpChannel:
    return TcpChannel(*await asyncio.open_connection("127.0.0.1", server.port))


@asynccontextmanager
async def real_session(server: VncServer, **options: object) -> AsyncIterator[DesktopSession]:
    async with desktop_session(await connect(server), **options) as session:  # type: ignore[arg-type]
        yield session


async def events(window: FullWindow, count: int) -> list[XEvent]:
    return [await asyncio.to_thread(window.next_event) for _ in range(count)]


def test_a_viewer_sees_the_instruments_screen_exactly_and_its_input_arrives(tmp_path: Path) -> None:
    screens = [to_picture(step.screen) for step in Analyzer().script()][:3]
    images = [step.screen for step in Analyzer().script()][:3]

    async def show() -> None:
        async with real_session(server) as session, rfb_viewer(session.receiver) as (viewer, _):
            for image, picture in zip(images, screens, strict=True):
                await asyncio.to_thread(window.show, image)
                await eventually(lambda picture=picture: viewer.picture == picture)
                assert session.receiver.picture == picture
            await viewer.channel.write(KeyEvent(A, True).encode() + KeyEvent(A, False).encode())
            assert [event.is_press for event in await events(window, 2)] == [True, False]
            await viewer.channel.write(PointerEvent(1, 10, 10).encode() + PointerEvent(0, 10, 10).encode())
            assert [event.is_press for event in await events(window, 2)] == [True, False]
            assert session.receiver.cursor is not None

    with vnc_server(tmp_path) as server, FullWindow(server.display) as window:
        asyncio.run(show())


def test_a_connection_lost_during_a_drag_leaves_nothing_pressed(tmp_path: Path) -> None:
    async def drag() -> None:
        async with real_session(server) as session:
            await eventually(lambda: session.receiver.updates > 0)
            for event in (KeyEvent(CONTROL, True), KeyEvent(A, True), PointerEvent(1, 50, 50)):
                await session.receiver.send(event)
            assert [event.is_press for event in await events(window, 3)] == [True] * 3
            session.line.writer.transport.abort()
            with pytest.raises(DesktopEndedError, match="the data center"):
                await session.box
            assert [event.is_press for event in await events(window, 3)] == [False] * 3

    with vnc_server(tmp_path, size=(200, 100)) as server, FullWindow(server.display) as window:
        asyncio.run(drag())


def test_view_only_releases_what_is_pressed_and_drops_input(tmp_path: Path) -> None:
    async def turn() -> None:
        async with real_session(server) as session, rfb_viewer(session.receiver) as (viewer, served):
            await viewer.channel.write(KeyEvent(A, True).encode())
            assert (await events(window, 1))[0].is_press
            session.bridge.set_control(has_control=False)
            released = (await events(window, 1))[0]
            assert not released.is_press
            await eventually(lambda: "view only" in session.receiver.note)
            await viewer.channel.write(KeyEvent(A + 1, True).encode() + KeyEvent(A + 1, False).encode())
            await session.receiver.send(KeyEvent(A + 1, True))
            await session.receiver.send(KeyEvent(A + 1, False))
            # the keys were dropped: the next event is the first one sent after control was returned
            await viewer.channel.write(b"\x06\0\0\0\0\0\0\x04text")
            await asyncio.to_thread(window.show, Image.new("RGB", (1, 1), (255, 0, 0)))
            await eventually(lambda: viewer.picture.pixels[0] == 0xFF0000)
            session.bridge.set_control(has_control=True)
            await eventually(lambda: not session.receiver.note)
            await viewer.channel.write(KeyEvent(A, True).encode())
            pressed = (await events(window, 1))[0]
            assert pressed == XEvent(2, released.code)
            await served.set_control(has_control=False)
            assert not (await events(window, 1))[0].is_press

    with vnc_server(tmp_path, size=(200, 100)) as server, FullWindow(server.display) as window:
        asyncio.run(turn())


def test_vnc_authentication(tmp_path: Path) -> None:
    async def authenticate() -> None:
        async with real_session(server, password=b"secret") as session:
            await eventually(lambda: session.receiver.updates > 0)
        async with real_session(server, password=b"wrong") as session:
            with pytest.raises(DesktopEndedError, match="refuses the authentication"):
                await session.box

    with vnc_server(tmp_path, size=(64, 64), password="secret") as server:
        asyncio.run(authenticate())


def test_a_frozen_server_is_stalled_and_the_session_can_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.box.desktop.bridge.PROBE_SECONDS", 0.2)

    async def freeze() -> None:
        async with real_session(server) as session, rfb_viewer(session.receiver) as (viewer, _):
            await eventually(lambda: session.receiver.updates > 0)
            server.freeze()
            await eventually(lambda: session.receiver.is_stalled)
            assert session.bridge.is_stalled
            for number in range(5000):
                await viewer.channel.write(PointerEvent(0, number % 64, 1).encode())
            server.thaw()
            await eventually(lambda: not session.receiver.is_stalled)
            server.freeze()
            await eventually(lambda: session.receiver.is_stalled)
            async with asyncio.timeout(60):
                session.box.cancel()
                await asyncio.wait((session.box,))
            server.thaw()

    with vnc_server(tmp_path, size=(64, 64)) as server:
        asyncio.run(freeze())


def test_a_server_that_ends_ends_the_desktop(tmp_path: Path) -> None:
    async def end() -> None:
        async with real_session(server) as session:
            await eventually(lambda: session.receiver.updates > 0)
            server.process.terminate()
            with pytest.raises(DesktopEndedError, match="the VNC server"):
                await session.box

    with vnc_server(tmp_path, size=(64, 64)) as server:
        asyncio.run(end())


class ScriptedServer:
    """A VNC server that sends given messages."""

    def __init__(self, channel: TcpChannel) -> None:
        self.channel = channel
        self.received: list[object] = []

    async def begin(self, width: int = 64, height: int = 48) -> None:
        await converse(self.channel, viewer_handshake(width, height, "scripted"))
        while not any(isinstance(message, UpdateRequest) for message in self.received):
            self.received.append(await converse(self.channel, viewer_message()))


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"\xfa", "the VNC server: the server sent a message of the type 250"),
        (
            struct.pack(">BxHHHHHi", 0, 1, 0, 0, 65535, 1, 0),
            "the VNC server: .* is not within a picture of 64×48",
        ),
        (
            struct.pack(">BxHHHHHi", 0, 1, 0, 0, 9, 9, -239) + bytes(40),
            "the VNC server closed the connection",
        ),
    ],
)
def test_a_hostile_server_ends_the_desktop_with_a_reason(sent: bytes, message: str) -> None:
    async def attack() -> None:
        server, server_end = await channel_pair()
        scripted = ScriptedServer(server_end)
        async with desktop_session(server) as session:
            await scripted.begin()
            await scripted.channel.write(sent)
            server_end.writer.close()
            with pytest.raises(DesktopEndedError, match=message):
                await session.box

    asyncio.run(attack())


def test_the_server_is_asked_for_plain_pixels_and_gets_no_clipboard() -> None:
    async def look() -> None:
        server, server_end = await channel_pair()
        scripted = ScriptedServer(server_end)
        async with desktop_session(server) as session:
            await scripted.begin()
            assert scripted.received[0] == SetFormat(NATIVE)
            await scripted.channel.write(b"\x03\0\0\0\0\0\0\x04text\x02")
            await eventually(lambda: session.receiver.updates > 0)
            session.writer.flush()
            assert b"text" not in session.recording.getvalue()

    asyncio.run(look())


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"X", "the data center: a message of the unknown type 88"),
        (b"A\0\0\0\x09", "the data center: an acknowledgement of a message that was not sent"),
    ],
)
def test_a_data_center_that_violates_the_protocol_ends_the_desktop(sent: bytes, message: str) -> None:
    async def violate() -> None:
        server, server_end = await channel_pair()
        line, datacenter = await channel_pair()
        scripted = ScriptedServer(server_end)
        bridge = DesktopBridge(server, line, bytes_per_second=1e6, has_control=True)
        task = asyncio.create_task(bridge.run())
        await scripted.begin()
        await datacenter.write(sent)
        with pytest.raises(DesktopEndedError, match=message):
            await task
        for channel in (server, server_end, line, datacenter):
            channel.writer.close()

    asyncio.run(violate())
