"""The pages of a data center with remote sessions, served on a TCP port, and the WebSockets of its viewers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from agents.box.desktop.encoder import PictureEncoder
from datacenter.sessions.session import DeskSession
from datacenter.store.store import Store
from datacenter.web.server import serving
from datacenter.web.sessions import COOKIE
from tests.support.datacenter.remote_sessions import Center, center
from tests.support.datacenter.web.client import WebClient, open_web
from tests.support.datacenter.web.fleet import fill_fleet
from wire.desktop.connection import TcpChannel
from wire.desktop.picture import Picture
from wire.desktop.stream import encode_frame, encode_header


@dataclass
class Pages:
    """A running data center with its pages on a TCP port."""

    center: Center
    web: WebClient
    port: int
    connections: list[TcpChannel] = field(default_factory=list)
    """Connections of boxes; a reference keeps them open."""

    def viewer(self, session: DeskSession, staff: str, origin: str = "") -> Any:
        """Return the WebSocket of a person's viewer."""
        return self.socket(session, staff, "viewer", origin)

    def socket(self, session: DeskSession, staff: str, path: str, origin: str = "") -> Any:
        """Return a person's WebSocket at `path` below the page of the session."""
        cookie = self.web.sign_in(staff).cookie
        headers = {"cookie": f"{COOKIE}={cookie}"}
        host = f"127.0.0.1:{self.port}"
        return connect(
            f"ws://{host}/sessions/{session.id.hex()}/{path}",
            origin=origin or f"http://{host}",  # type: ignore[arg-type]
            additional_headers=headers,
            compression=None,
        )

    async def box(self) -> TcpChannel:
        """Return the box's end of the desktop connection in the latest tunnel."""
        box_socket = await self.center.endpoints[-1].box
        return TcpChannel(*await asyncio.open_connection(sock=box_socket))

    async def shown(self, session: DeskSession) -> TcpChannel:
        """Send a black picture of 64 x 48 pixels as the box; return the box's end of the connection."""
        box = await self.box()
        picture = PictureEncoder(Picture(64, 48), level=1).next_message() or b""
        await box.write(encode_header(bytes(8)) + encode_frame(picture, 0))
        await box.read_exactly(5)
        self.connections.append(box)
        return box


@asynccontextmanager
async def pages(folder: Path, four_eyes: Collection[str]) -> AsyncIterator[Pages]:
    """Run a data center with the fleet; its files are in `folder`."""
    store = Store(f"sqlite:///{folder / 'store.db'}", durable=False)
    fill_fleet(store, with_reports=False)
    try:
        async with center(folder / "sessions", store, four_eyes) as running:
            web = open_web(store, lambda: time.time_ns() // 1_000_000, remote=running.remote)
            async with serving(web.application, "127.0.0.1", 0, has_websockets=True) as port:
                yield Pages(running, web, port)
    finally:
        store.close()


def run_pages(folder: Path, act: Callable[[Pages], Awaitable[None]], four_eyes: Collection[str] = ()) -> None:
    """Call `act` with the pages of a running data center; the sites `four_eyes` require two viewers."""

    async def inside() -> None:
        async with pages(folder, four_eyes) as served:
            await act(served)

    asyncio.run(inside())
