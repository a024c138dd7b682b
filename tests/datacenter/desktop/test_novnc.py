"""noVNC in Chromium, unmodified, and viewers that lose their connection, at the data center's web server."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from agents.box.desktop.encoder import PictureEncoder
from datacenter.desktop.receiver import DesktopReceiver
from datacenter.desktop.recording import RecordingWriter
from datacenter.desktop.viewer import DesktopViewer
from datacenter.desktop.websocket import serve_viewer
from datacenter.web.server import serving
from tests.support.datacenter.web.browser import BrowserPage, open_browser
from tests.support.desktop.canvas import canvas_hash
from tests.support.desktop.screens import Analyzer, to_picture
from tests.support.desktop.session import DesktopSession, channel_pair, desktop_session
from tests.support.desktop.vnc_server import vnc_server
from tests.support.desktop.x11 import FullWindow
from tests.support.eventually import eventually
from wire.desktop.connection import TcpChannel
from wire.desktop.picture import Picture
from wire.desktop.rfb import KeyEvent
from wire.desktop.rfb_client import update_request
from wire.desktop.stream import encode_frame, encode_header

NOVNC = Path("/usr/share/novnc")
PAGE = """<!doctype html><link rel=icon href="data:,"><title>waits</title>
<div id=screen style="width:1024px;height:768px"></div>
<script type=module>
import RFB from "/novnc/core/rfb.js";
const rfb = new RFB(document.getElementById("screen"), `ws://${location.host}/desktop`);
rfb.addEventListener("desktopname", event => { document.title = event.detail.name; });
rfb.addEventListener("disconnect", event => { window.ended = event.detail.clean; });
window.shown = async () => {
    const canvas = document.querySelector("canvas");
    if (!canvas || !canvas.width) return "";
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", pixels));
    return Array.from(hash, byte => byte.toString(16).padStart(2, "0")).join("");
};
window.focusOnDesktop = () => rfb.focus();
</script>"""


@asynccontextmanager
async def web(session: DesktopSession) -> AsyncIterator[int]:
    assert (NOVNC / "core/rfb.js").is_file(), "noVNC is not installed: make setup-sessions"

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE)

    async def desktop(websocket: WebSocket) -> None:
        await serve_viewer(websocket, session.receiver, "AU-Sim 5800", has_control=True)

    static = Mount("/novnc", StaticFiles(directory=NOVNC))
    routes = [Route("/", page), WebSocketRoute("/desktop", desktop), static]
    async with serving(Starlette(routes=routes), "127.0.0.1", 0, has_websockets=True) as port:
        yield port


async def connect(port: int) -> TcpChannel:
    return TcpChannel(*await asyncio.open_connection("127.0.0.1", port))


def test_novnc_shows_every_pixel_passes_keys_and_shows_a_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.box.desktop.bridge.PROBE_SECONDS", 0.5)
    steps = list(Analyzer().script())[:3]

    async def show(page: BrowserPage) -> None:
        async with desktop_session(await connect(server.port)) as session, web(session) as port:
            await eventually(lambda: session.receiver.updates > 0)
            await asyncio.to_thread(page.open, f"http://127.0.0.1:{port}/")
            for step in steps:
                await asyncio.to_thread(window.show, step.screen)
                await becomes(page, "shown()", canvas_hash(to_picture(step.screen)))
            await asyncio.to_thread(page.evaluate, "focusOnDesktop()")
            await asyncio.to_thread(page.press, "Enter")
            pressed = await asyncio.to_thread(window.next_event)
            assert pressed.is_press
            server.freeze()
            stalled = "document.title.includes('stalled')"
            await becomes(page, stalled, True)
            server.thaw()
            await becomes(page, stalled, False)
        assert not page.problems

    with (
        vnc_server(tmp_path) as server,
        FullWindow(server.display) as window,
        open_browser(tmp_path / "browser") as page,
    ):
        asyncio.run(show(page))


async def becomes(page: BrowserPage, script: str, expected: object) -> None:
    async def holds() -> bool:
        return bool(await asyncio.to_thread(page.evaluate, script) == expected)

    await eventually(holds, every_s=0.2)


HANDSHAKE = (
    b"GET /desktop HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(data: bytes) -> bytes:
    """Return a short binary WebSocket message of a client, with a zero mask."""
    assert len(data) < 126
    return bytes([0x82, 0x80 | len(data)]) + bytes(4) + data


async def open_websocket(port: int) -> TcpChannel:
    """Return a viewer's connection after the handshakes of WebSocket and RFB."""
    viewer = await connect(port)
    await viewer.write(HANDSHAKE)
    assert b" 101 " in await viewer.reader.readuntil(b"\r\n\r\n")
    await viewer.write(frame(b"RFB 003.008\n") + frame(b"\x01\x01"))
    return viewer


def test_a_viewer_whose_line_is_lost_is_dropped_and_its_keys_are_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost connection is detected within 30 s (25 s by default); the test shortens the intervals."""
    from datacenter.web import server as web_server

    assert web_server.WEBSOCKET_PING_SECONDS + web_server.WEBSOCKET_PONG_SECONDS_MAX <= 30
    monkeypatch.setattr(web_server, "WEBSOCKET_PING_SECONDS", 0.3)
    monkeypatch.setattr(web_server, "WEBSOCKET_PONG_SECONDS_MAX", 0.3)

    async def cut() -> None:
        async with desktop_session(await connect(server.port)) as session, web(session) as port:
            await eventually(lambda: session.receiver.updates > 0)
            viewer = await open_websocket(port)
            await viewer.write(frame(KeyEvent(0x61, True).encode()))
            assert (await asyncio.to_thread(window.next_event)).is_press
            # the viewer keeps its connection open, but reads nothing more, as if its line was lost
            assert not (await asyncio.to_thread(window.next_event)).is_press
            viewer.writer.close()

    with vnc_server(tmp_path, size=(64, 64)) as server, FullWindow(server.display) as window:
        asyncio.run(cut())


def test_a_viewer_that_reads_no_pictures_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection remains open, but the viewer's end accepts no more data."""
    from datacenter.desktop import viewer as viewers

    assert viewers.WRITE_SECONDS_MAX <= 30
    monkeypatch.setattr(viewers, "WRITE_SECONDS_MAX", 0.3)

    async def stall() -> None:
        box, line = await channel_pair()
        receiver = DesktopReceiver(line, RecordingWriter(io.BytesIO()))
        receiving = asyncio.create_task(receiver.run())
        black = Picture(2560, 1600)
        encoder = PictureEncoder(black, level=1)
        await box.write(encode_header(bytes(8)) + encode_frame(encoder.next_message() or b"", 0))
        await box.read_exactly(5)
        client, server = await channel_pair()
        served = asyncio.create_task(DesktopViewer(receiver, server, "", has_control=True).run())
        client_transport = client.writer.transport
        assert isinstance(client_transport, asyncio.Transport)
        client_transport.pause_reading()
        await client.write(b"RFB 003.008\n\x01\x01" + update_request(black.area, incremental=False))
        await client.write(KeyEvent(0x61, True).encode())
        with pytest.raises(TimeoutError):
            await served
        assert [await box.read_exactly(8) for _ in range(2)] == [
            KeyEvent(0x61, True).encode(),
            KeyEvent(0x61, False).encode(),
        ]
        receiving.cancel()
        for channel in (box, line, client, server):
            channel.writer.transport.abort()

    asyncio.run(stall())


def test_a_viewer_that_violates_the_protocol_is_closed_with_the_reason(tmp_path: Path) -> None:
    async def violate() -> None:
        async with desktop_session(await connect(server.port)) as session, web(session) as port:
            await eventually(lambda: session.receiver.updates > 0)
            viewer = await open_websocket(port)
            await viewer.write(frame(b"\xfb"))
            await viewer.reader.readuntil(b"the viewer sent a message of the type 251")
            viewer.writer.transport.abort()

    with vnc_server(tmp_path, size=(64, 64)) as server:
        asyncio.run(violate())
