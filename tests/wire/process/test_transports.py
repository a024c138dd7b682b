"""Connections whose peer is dead, and connections that are aborted while or after their last data is sent."""

from __future__ import annotations

import asyncio
import socket

import pytest

from wire.process.failures import FailureLog
from wire.process.transports import DEAD_PEER_SECONDS_MAX, abort, probe_peer

DATA = bytes(8 << 20)
"""More than the buffers of a pair of sockets hold."""


class _Writer(asyncio.Protocol):
    """Sends `DATA` and closes; if `is_hasty`, it aborts as soon as the transport calls `resume_writing`."""

    def __init__(self, *, is_hasty: bool) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self._is_hasty = is_hasty

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(DATA)
        transport.close()

    def resume_writing(self) -> None:
        if self._is_hasty:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


async def _close_with_unsent_data(*, is_hasty: bool = False) -> _Writer:
    """Return a protocol whose connection was lost while or after its peer received the data."""
    loop = asyncio.get_running_loop()
    local, peer = socket.socketpair()
    peer.setblocking(False)
    _, writer = await loop.create_connection(lambda: _Writer(is_hasty=is_hasty), sock=local)
    with peer:
        while not writer.lost.done():
            await loop.sock_recv(peer, 1 << 16)
    return writer


def test_the_kernel_probes_a_silent_peer_and_ends_the_connection_of_a_dead_one() -> None:
    async def main() -> dict[str, int]:
        connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda _, writer: connected.set_result(writer), "127.0.0.1", 0)
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer = await connected
        probe_peer(writer.transport)
        options = {
            name: writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        }
        assert writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for closable in (writer, client, server):
            closable.close()
        return options

    options = asyncio.run(main())
    assert (
        options["TCP_KEEPIDLE"] + options["TCP_KEEPCNT"] * options["TCP_KEEPINTVL"] == DEAD_PEER_SECONDS_MAX
    )
    assert options["TCP_USER_TIMEOUT"] == DEAD_PEER_SECONDS_MAX * 1000
    assert DEAD_PEER_SECONDS_MAX <= 90


def test_a_connection_that_is_lost_can_be_aborted() -> None:
    async def main() -> None:
        writer = await _close_with_unsent_data()
        abort(writer.transport)  # where CPython gh-156512 is not fixed, its own `abort` raises AttributeError

    asyncio.run(main())


def test_a_connection_lost_twice_is_not_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(FailureLog())
        await _close_with_unsent_data(is_hasty=True)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert not caplog.records


def test_another_failure_of_a_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    message = "Exception in callback _SelectorSocketTransport._call_connection_lost(None)"

    async def main() -> None:
        FailureLog()(asyncio.get_running_loop(), {"message": message, "exception": OSError("no")})

    asyncio.run(main())
    assert len(caplog.records) == 1
