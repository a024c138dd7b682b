"""The staff's web application behind a real TCP port, served from a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from datacenter.web.server import serving
from tests.support.eventually import WAIT_SECONDS_MAX


@contextmanager
def served(application: ASGIApp) -> Iterator[str]:
    """Serve the application on loopback within the block; gives its URL."""
    ready = threading.Event()
    started: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with serving(application, "127.0.0.1", 0) as port:
            started.append((port, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(WAIT_SECONDS_MAX)
    port, loop, stop = started[0]
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
