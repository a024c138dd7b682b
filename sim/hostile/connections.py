"""Attacks on the number of connections and on the time that they take before anything is asked."""

from __future__ import annotations

import asyncio
from itertools import count

from sim.hostile import Access
from sim.hostile.lines import connect, lines
from wire.tls.context import client_hello


async def hoard(access: Access, every_s: float, connections: int) -> None:
    """Open one more connection `every_s`, up to so many, and ask nothing over them."""
    with lines() as held:
        while True:
            if len(held) < connections and (line := await connect(access)):
                held.add(line)
            await asyncio.sleep(every_s)


async def stall_handshakes(access: Access, every_s: float, connections: int) -> None:
    """As `hoard`, and of each TLS handshake send nothing, or the first half of the first message, or all of it."""
    hello = client_hello(access.tls)
    beginnings = (b"", hello[: len(hello) // 2], hello)
    with lines() as held:
        for turn in count():
            if len(held) < connections and (line := await connect(access, secured=False)):
                line.write(beginnings[turn % len(beginnings)])
                held.add(line)
            await asyncio.sleep(every_s)


async def reconnect(access: Access, every_s: float) -> None:
    """Make a connection, handshake included, and end it: by a reset, or without waiting for the handshake."""
    hello = client_hello(access.tls)
    for turn in count():
        if line := await connect(access, secured=turn % 2 == 0):
            line.write(hello if turn % 2 else b"")
            line.abort()
        await asyncio.sleep(every_s)
