"""Connections that are aborted after, or while, their last data leaves."""

from __future__ import annotations

import asyncio
import socket

import pytest

from wire.process.failures import FailureLog
from wire.process.transports import abort

DATA = bytes(8 << 20)
"""More than the buffers of a pair of sockets hold."""


class _Writer(asyncio.Protocol):
    """Sends `DATA` and closes; aborts when it may write more, if `is_hasty`."""

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
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, writer = await loop.create_connection(lambda: _Writer(is_hasty=is_hasty), sock=ours)
    with theirs:
        while not writer.lost.done():
            await loop.sock_recv(theirs, 1 << 16)
    return writer


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
