"""Attacks by requests: they come a byte at a time, their answers are never read, or they have no end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, count, cycle, repeat
from typing import Final

from sim.hostile import Access
from sim.hostile.lines import Line, connect, lines
from wire.messages import READINGS_PER_REPORT_MAX, REPORTS_BODY_BYTES_MAX
from wire.tls.context import client_hello

POST: Final = b"POST /v1/reports HTTP/1.1\r\nHost: rap-box\r\n"
BURST_REQUESTS: Final = 8
"""As many as a server usually takes before it has answered the first."""
CHUNK: Final = 16 * 1024
ENDLESS_BYTES: Final = 4 << 20
"""Of something without an end so much is sent at most; it is far beyond every limit of the box."""


# -- a byte at a time


async def drip(access: Access, every_s: float, connections: int) -> None:
    """Send one byte `every_s` over each of so many connections: of a TLS handshake, a head, and a body in turn."""
    hello = client_hello(access.tls)
    turns = count()
    with lines() as held:
        bytes_of: dict[Line, Iterator[bytes]] = {}
        while True:
            if len(held) < connections:
                turn = next(turns) % 3
                if line := await connect(access, secured=turn != 0):
                    held.add(line)
                    bytes_of[line] = _singly((hello, _slow_head(), _slow_body())[turn])
                    line.write((b"", b"", _slow_body_head())[turn])
            bytes_of = {line: bytes_of[line] for line in held}
            for line, left in bytes_of.items():
                line.write(next(left, b""))
            await asyncio.sleep(every_s)


def _singly(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def _slow_head() -> bytes:
    return POST + b"x: " + bytes(64).hex().encode() * 8 + b"\r\n\r\n"


def _slow_body_head() -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n" % REPORTS_BODY_BYTES_MAX


def _slow_body() -> bytes:
    return bytes(REPORTS_BODY_BYTES_MAX)


# -- answers that nobody reads


async def ignore_answers(access: Access, every_s: float, connections: int) -> None:
    """Send bursts of requests `every_s` over each of so many connections, and read no answer."""
    burst = b"GET /nothing HTTP/1.1\r\nHost: rap-box\r\n\r\n" * BURST_REQUESTS
    with lines() as held:
        while True:
            if len(held) < connections and (line := await connect(access)):
                line.stop_reading()
                held.add(line)
            for line in held:
                line.write(burst)
            await asyncio.sleep(every_s)


# -- no end


async def oversize(access: Access, every_s: float) -> None:
    """Send something that is too large, each time another: see ENDLESS."""
    for secured, beginning, rest in cycle(ENDLESS):
        if line := await connect(access, secured=secured):
            try:
                await _send_all(line, chain([beginning], repeat(rest)))
            finally:
                line.abort()
        await asyncio.sleep(every_s)


async def _send_all(line: Line, parts: Iterator[bytes]) -> None:
    sent = 0
    while line.is_open and sent < ENDLESS_BYTES:
        part = next(parts)
        sent += len(part)
        await line.send(part)


def _too_many_readings() -> bytes:
    """Reports as large as a body may be, each beyond what one may hold (MessagePack)."""
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
"""Whether under TLS, the beginning, and what is repeated: bodies, chunks, one header field, many, a target, reports
with too many readings, empty lines, a TLS handshake message."""
