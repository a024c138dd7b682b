"""Cancelled connections of the kernel world's event loop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import nullcontext
from typing import Any

import pytest

from sim.worlds.kernel.supervision.real_time import HostLoop, acting
from tests.support.crypto.hierarchy import Hierarchy
from wire.tls.context import client_context, server_context


class HostOutsideNamespaces:
    """A host whose sockets are in the network namespace of this process."""

    def inside(self) -> nullcontext[None]:
        return nullcontext()


class CancelledWhenConnected(asyncio.Protocol):
    """Cancels the connecting task at the end of the TLS handshake."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket: socket.socket = transport.get_extra_info("socket")
        self._task.cancel()


def test_a_cancelled_connection_keeps_its_descriptor_until_its_transport_has_ended(pki: Hierarchy) -> None:
    async def connect(port: int, protocols: list[CancelledWhenConnected]) -> None:
        acting.set(HostOutsideNamespaces())  # type: ignore[arg-type]
        task = asyncio.current_task()
        assert task is not None
        protocols.append(CancelledWhenConnected(task))
        context = client_context(pki.box)
        await asyncio.get_running_loop().create_connection(
            lambda: protocols[0], "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )

    async def main() -> None:
        context = server_context(pki.datacenter)
        async with await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0, ssl=context) as server:
            protocols: list[CancelledWhenConnected] = []
            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(connect(server.sockets[0].getsockname()[1], protocols))
            assert protocols[0].socket.fileno() != -1
            with pytest.raises(RuntimeError, match="is used by transport"):
                asyncio.get_running_loop().add_reader(protocols[0].socket.fileno(), print)

    loop = HostLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
