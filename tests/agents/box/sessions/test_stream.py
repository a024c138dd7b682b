"""The raw TCP service of a session: bytes in both directions, several connections, and nothing after the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agents.box.sessions.desktop import Accepted, DesktopNetwork
from agents.box.sessions.stream import CONNECTIONS_MAX, SharedStream
from tests.support.eventually import WAIT_SECONDS_MAX, eventually

HOST = "127.0.0.1"
ENDED = (ConnectionResetError, asyncio.IncompleteReadError)
RATE = 1e9
"""Bytes a second, so that the rate limit has no effect; slow lines are tested with the desktop stream."""


@dataclass
class Network:
    """Loopback, with a service that answers each byte with its value plus one."""

    stream: SharedStream = field(init=False)
    instrument_port: int = 0
    box_port: int = 0
    open: int = 0
    """The connections that the instrument has now."""
    received: int = 0
    """The bytes that the instrument has received."""
    refused: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        while data := await reader.read(65_536):
            self.received += len(data)
            writer.write(bytes((byte + 1) % 256 for byte in data))
            await writer.drain()
        self.open -= 1
        writer.close()

    async def listen(self, accept: Accepted, port: int) -> asyncio.AbstractServer:
        assert port == 3389
        server = await asyncio.start_server(accept, HOST, 0)
        self.box_port = server.sockets[0].getsockname()[1]
        return server

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert (address, port) == ("10.77.1.5", 3389)
        return await asyncio.open_connection(HOST, self.instrument_port)

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as the data center does."""
        return await asyncio.open_connection(HOST, self.box_port)


@asynccontextmanager
async def sharing() -> AsyncIterator[Network]:
    network = Network()
    async with await asyncio.start_server(network.serve, HOST, 0) as server:
        network.instrument_port = server.sockets[0].getsockname()[1]
        desktop = DesktopNetwork(network.listen, network.connect)
        network.stream = SharedStream("10.77.1.5", 3389, RATE, desktop, network.refused.append)
        await network.stream.start()
        yield network
        await network.stream.close()


def run(act: Callable[[Network], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(WAIT_SECONDS_MAX), sharing() as network:
            await act(network)

    asyncio.run(inside())


def test_bytes_pass_both_ways_and_the_end_of_a_connection_is_passed_on() -> None:
    data = os.urandom(100_000)

    async def act(network: Network) -> None:
        for _ in range(CONNECTIONS_MAX + 1):  # one after the other
            reader, writer = await network.connected()
            writer.write(data)
            assert await reader.readexactly(len(data)) == bytes((byte + 1) % 256 for byte in data)
            writer.close()
            await eventually(lambda: network.open == 0)

    run(act)


def test_a_connection_over_the_limit_is_closed_and_does_not_reach_the_instrument() -> None:
    async def act(network: Network) -> None:
        connections = [await network.connected() for _ in range(CONNECTIONS_MAX)]
        await eventually(lambda: network.open == CONNECTIONS_MAX)
        reader, _ = await network.connected()
        with pytest.raises(ENDED):
            await reader.readexactly(1)
        assert network.open == CONNECTIONS_MAX
        for _, writer in connections:
            writer.close()

    run(act)


def test_nothing_passes_after_the_end() -> None:
    async def act(network: Network) -> None:
        reader, writer = await network.connected()
        writer.write(b"a")
        assert await reader.readexactly(1) == b"b"
        await network.stream.close()
        with pytest.raises(ENDED):
            await reader.readexactly(1)
        with pytest.raises(ConnectionRefusedError):
            await network.connected()
        await eventually(lambda: network.open == 0)
        assert network.received == 1

    run(act)


def test_an_instrument_that_cannot_be_reached_ends_the_connection_and_is_recorded() -> None:
    async def act(network: Network) -> None:
        network.instrument_port = 1
        reader, _ = await network.connected()
        with pytest.raises(ENDED):
            await reader.readexactly(1)
        assert "cannot be reached" in network.refused[0]

    run(act)
