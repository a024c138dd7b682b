"""Attacks by invalid data: not TLS, not HTTP, not reports, or too large."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import cycle
from typing import Final

from sim.hostile import Access
from wire.dial.dialer import dial
from wire.http.connection import HttpError

GARBAGE_BYTES: Final = 2000
REPLY_BYTES_MAX: Final = 1 << 20


async def send_garbage(access: Access, every_s: float) -> None:
    """Send invalid data every `every_s` seconds, cycling through the kinds in GARBAGE."""
    for kind in cycle(GARBAGE):
        with suppress(OSError, HttpError):  # the box is expected to close the connection
            await kind(access)
        await asyncio.sleep(every_s)


async def _no_tls(access: Access) -> None:
    box = access.box
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, box.address, box.port)
    transport.write(access.random.randbytes(GARBAGE_BYTES))
    await asyncio.sleep(1)
    transport.close()


async def _no_http(access: Access) -> None:
    connection = await dial(access.box, access.tls, reply_bytes_max=REPLY_BYTES_MAX)
    assert connection.transport is not None
    connection.transport.write(access.random.randbytes(GARBAGE_BYTES))
    await asyncio.sleep(1)
    connection.close()


async def _no_report(access: Access) -> None:
    connection = await dial(access.box, access.tls, reply_bytes_max=REPLY_BYTES_MAX)
    await connection.request("POST", "/v1/reports", access.random.randbytes(GARBAGE_BYTES))
    connection.close()


async def _too_much(access: Access) -> None:
    connection = await dial(access.box, access.tls, reply_bytes_max=REPLY_BYTES_MAX)
    await connection.request("POST", "/v1/reports", bytes(1 << 20))
    connection.close()


GARBAGE: Final = (_no_tls, _no_http, _no_report, _too_much)
