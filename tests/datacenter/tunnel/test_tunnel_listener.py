"""The listener forwards one connection with the key of each expected session; others get no response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from datacenter.tunnel.listener import FIRST_BYTES_MAX, WAITING_MAX, TunnelListener
from tests.support.eventually import WAIT_SECONDS_MAX, eventually

KEY = bytes(range(64))
RESET = b"\x50"
FIRST = RESET + b"0123456789abcdef" + KEY


def framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


class ServedListener:
    """A listener on a TCP port of the loopback interface, and an echo server behind it."""

    def __init__(self) -> None:
        self.listener, self.port = TunnelListener(), 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the listener."""
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def serve_listener() -> AsyncIterator[ServedListener]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    served = ServedListener()
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    listener = await loop.create_server(served.listener.accept, "127.0.0.1", 0)
    served.port = listener.sockets[0].getsockname()[1]
    echo_port = server.sockets[0].getsockname()[1]

    async def connect(protocol: asyncio.Protocol) -> None:
        await loop.create_connection(lambda: protocol, "127.0.0.1", echo_port)

    served.listener.expect(KEY, connect)
    try:
        yield served
    finally:
        listener.close()
        server.close()


def run(act: Callable[[ServedListener], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(WAIT_SECONDS_MAX), serve_listener() as served:
            await act(served)

    asyncio.run(inside())


async def answer(served: ServedListener, *pieces: bytes) -> bytes:
    """Send these bytes, piece by piece; return all that is received until the connection ends."""
    reader, writer = await served.connect()
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    try:
        data = await reader.read()
    except ConnectionResetError:
        data = b""
    writer.close()
    return data


def test_a_connection_with_the_key_of_a_session_is_forwarded_completely() -> None:
    async def act(served: ServedListener) -> None:
        reader, writer = await served.connect()
        sent = framed(FIRST) + b"more"
        for byte in sent:
            writer.write(bytes([byte]))
            await writer.drain()
        assert await reader.readexactly(len(sent)) == sent
        writer.write(b"later")
        assert await reader.readexactly(5) == b"later"
        writer.close()

    run(act)


def test_a_key_is_accepted_once() -> None:
    async def act(served: ServedListener) -> None:
        reader, writer = await served.connect()
        writer.write(framed(FIRST))
        await reader.readexactly(len(framed(FIRST)))
        assert await answer(served, framed(FIRST)) == b""
        assert served.listener.refused == 1
        writer.close()

    run(act)


def test_a_forgotten_key_is_refused() -> None:
    async def act(served: ServedListener) -> None:
        served.listener.forget(KEY)
        assert await answer(served, framed(FIRST)) == b""

    run(act)


@pytest.mark.parametrize(
    "sent",
    [
        framed(b"\x38" + FIRST[1:]),  # a client without a tls-crypt-v2 key
        framed(FIRST + b"x"),
        framed(FIRST[:-1]),
        framed(KEY[1:]),
        b"\0\0",
        (FIRST_BYTES_MAX + 1).to_bytes(2, "big"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),  # a TLS ClientHello
        b"GET / HTTP/1.1\r\nHost: tunnel\r\n\r\n" + bytes(FIRST_BYTES_MAX * 20),
    ],
)
def test_other_first_bytes_get_no_response(sent: bytes) -> None:
    async def act(served: ServedListener) -> None:
        assert await answer(served, sent) == b""
        await eventually(lambda: served.listener.refused == 1)

    run(act)


def test_a_changed_byte_anywhere_in_the_key_is_refused() -> None:
    async def act(served: ServedListener) -> None:
        random = Random(1)
        for at in range(len(FIRST) - len(KEY), len(FIRST)):
            changed = bytearray(FIRST)
            changed[at] ^= 1 << random.randrange(8)
            assert await answer(served, framed(bytes(changed))) == b""
        assert await answer_of_the_server(served) == framed(FIRST)

    run(act)


async def answer_of_the_server(served: ServedListener) -> bytes:
    reader, writer = await served.connect()
    writer.write(framed(FIRST))
    data = await reader.readexactly(len(framed(FIRST)))
    writer.close()
    return data


def test_the_oldest_silent_connection_is_closed_for_a_further_one() -> None:
    async def act(served: ServedListener) -> None:
        silent = [await served.connect() for _ in range(WAITING_MAX + 1)]
        with_end, _ = silent[0]
        assert await with_end.read() == b""
        assert await answer_of_the_server(served) == framed(FIRST)
        for _, writer in silent:
            writer.close()

    run(act)
