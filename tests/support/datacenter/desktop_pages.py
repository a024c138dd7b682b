"""The pages of a data center with remote sessions, behind a real TCP port, and WebSockets of its viewers."""

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
from tests.support.datacenter.web_client import WebClient, open_web
from tests.support.datacenter.web_fleet import fill_fleet
from wire.desktop.connection import TcpChannel
from wire.desktop.picture import Picture
from wire.desktop.stream import encode_frame, encode_header


@dataclass
class Pages:
    """A running data center with its pages on a port."""

    center: Center
    web: WebClient
    port: int
    connections: list[TcpChannel] = field(default_factory=list)
    """Connections of boxes; a reference keeps them open."""

    def viewer(self, session: DeskSession, staff: str, origin: str = "") -> Any:
        """Return the WebSocket of a person's viewer."""
        return self.socket(session, staff, "viewer", origin)

    def socket(self, session: DeskSession, staff: str, what: str, origin: str = "") -> Any:
        """Return a WebSocket of a person."""
        cookie = self.web.sign_in(staff).cookie
        headers = {"cookie": f"{COOKIE}={cookie}"}
        host = f"127.0.0.1:{self.port}"
        return connect(
            f"ws://{host}/sessions/{session.id.hex()}/{what}",
            origin=origin or f"http://{host}",  # type: ignore[arg-type]
            additional_headers=headers,
            compression=None,
        )

    async def box(self) -> TcpChannel:
        """Return the box's end of the connection to its desktop."""
        far = await self.center.endpoints[-1].box
        return TcpChannel(*await asyncio.open_connection(sock=far))

    async def shown(self, session: DeskSession) -> TcpChannel:
        """Send a small black desktop; return the box's end of the connection."""
        box = await self.box()
        picture = PictureEncoder(Picture(64, 48), level=1).next_message() or b""
        await box.write(encode_header(bytes(8)) + encode_frame(picture, 0))
        await box.read_exactly(5)
        self.connections.append(box)
        return box


@asynccontextmanager
async def pages(folder: Path, four_eyes: Collection[str]) -> AsyncIterator[Pages]:
    """Run a data center whose files are in a folder."""
    store = Store(f"sqlite:///{folder / 'store.db'}", durable=False)
    fill_fleet(store, with_reports=False)
    try:
        async with center(folder / "sessions", store, four_eyes) as made:
            web = open_web(store, lambda: time.time_ns() // 1_000_000, remote=made.remote)
            async with serving(web.application, "127.0.0.1", 0, has_websockets=True) as port:
                yield Pages(made, web, port)
    finally:
        store.close()


def run_pages(folder: Path, act: Callable[[Pages], Awaitable[None]], four_eyes: Collection[str] = ()) -> None:
    """Call `act` with the pages of a running data center; the sites `four_eyes` require two viewers."""

    async def inside() -> None:
        async with pages(folder, four_eyes) as made:
            await act(made)

    asyncio.run(inside())
