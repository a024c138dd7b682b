"""The forwarder behind HTTP intermediaries that change framing or coding, or refuse requests: no record is lost."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from http import HTTPStatus

import pytest

import agents.box.uplink.forwarder
import wire.dial.backoff
from tests.support.agents.stand_in import StandIn
from tests.support.agents.uplink.forwarding import drained, forwarding
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.dial.backoff import Backoff
from wire.http.connection import Peer, Request, Response
from wire.tls.context import server_context

Style = Callable[[Response, int], tuple[bytes, bool]]
"""Takes a response and the number of its connection (from 0); returns the bytes that the intermediary sends, and
whether it then closes the connection.
"""
NOW: int = 1_700_000_000
PAGE = b"<html>" + b"<p>The upstream server is unavailable.</p>" * 5000


def by_length(response: Response, *fields: str, version: str = "1.1", body: bytes | None = None) -> bytes:
    body = response.body if body is None else body
    head = [f"HTTP/{version} {response.status} X", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


def chunked(response: Response, _connection: int) -> tuple[bytes, bool]:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in response.body)
    head = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % response.status
    return head + chunks + b"0\r\n\r\n", False


def without_length(response: Response, _connection: int) -> tuple[bytes, bool]:
    return b"HTTP/1.1 %d X\r\nContent-Type: text/html\r\n\r\n" % response.status + response.body, True


def http_1_0(response: Response, _connection: int) -> tuple[bytes, bool]:
    return by_length(response, version="1.0"), True


def closing(response: Response, _connection: int) -> tuple[bytes, bool]:
    return by_length(response, "Connection: close", "Content-Type: text/html; charset=utf-8"), True


def gzipped(response: Response, _connection: int) -> tuple[bytes, bool]:
    return by_length(response, "Content-Encoding: gzip", body=gzip.compress(response.body)), False


def gzipped_silently(response: Response, _connection: int) -> tuple[bytes, bool]:
    return by_length(response, body=gzip.compress(response.body)), False


def not_gzipped(response: Response, _connection: int) -> tuple[bytes, bool]:
    return by_length(response, "Content-Encoding: gzip", "Content-Type: application/json"), False


@asynccontextmanager
async def intermediary(pki: Hierarchy, style: Style) -> AsyncIterator[tuple[StandIn, int, list[int]]]:
    """Run a TLS front end of a data center; yield the data center, its port, and the count of requests on each
    connection.
    """
    center, requests = StandIn(), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer("RAP-1", "127.0.0.1", writer.transport.abort)
        requests.append(0)
        connection = len(requests) - 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
                body = await reader.readexactly(int(fields["content-length"]))
                requests[connection] += 1
                response = await center.handle(Request("POST", "/", fields, body, peer))
                answer, closes = style(response, connection)
                writer.write(answer)
                if closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(pki.datacenter))
    async with server:
        yield center, server.sockets[0].getsockname()[1], requests


def deliver(pki: Hierarchy, style: Style) -> tuple[StandIn, list[int]]:
    """Deliver a backlog, and then three alerts, one after the other."""

    async def run() -> tuple[StandIn, list[int]]:
        async with (
            intermediary(pki, style) as (center, port, requests),
            forwarding(pki, port, backlog=1000) as bench,
        ):
            await drained(bench)
            for number in (1001, 1002, 1003):
                await bench.alert(number)
                await drained(bench)
            await eventually(lambda: center.alerts == [1001, 1002, 1003])
            return center, requests

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the requested delays. The back-off itself takes 1 ms, and connection attempts are not limited."""
    monkeypatch.setattr(agents.box.uplink.forwarder, "DIALS_BURST", 1_000_000)
    delays: list[float] = []
    monkeypatch.setattr(wire.dial.backoff, "DELAY_SECONDS_MIN", 0.0)
    monkeypatch.setattr(wire.dial.backoff, "DELAY_SECONDS_MAX", 0.002)
    failed = Backoff.failed

    def note(self: Backoff, retry_after_s: float = 0.0) -> float:
        delays.append(failed(self, retry_after_s))
        return 0.001

    monkeypatch.setattr(Backoff, "failed", note)
    return delays


@pytest.mark.parametrize("style", [chunked, gzipped, gzipped_silently, not_gzipped])
def test_responses_with_other_framing_or_coding_are_accepted(
    pki: Hierarchy, style: Style, waits: list[float]
) -> None:
    center, requests = deliver(pki, style)
    assert sorted(center.reports) == [("CHEM-1", 1, n) for n in range(1, 1004)]
    assert center.repeated == 0 and len(requests) == 1 and not waits
    assert "uplink-lost" not in center.audits


@pytest.mark.parametrize("style", [without_length, http_1_0, closing])
def test_an_intermediary_that_closes_after_each_response_is_not_an_outage(
    pki: Hierarchy, style: Style, waits: list[float]
) -> None:
    center, requests = deliver(pki, style)
    assert sorted(center.reports) == [("CHEM-1", 1, n) for n in range(1, 1004)]
    assert len(requests) > 3 and max(requests) == 1, "each connection served one request"
    # on the first connection a second request may be in flight, for which the kernel resets the connection
    assert len(waits) <= 1 and center.audits.count("uplink-lost") <= 1


def error_page(status: int, *fields: str) -> Style:
    """Respond with an error on the first three connections, and then normally."""

    def style(response: Response, connection: int) -> tuple[bytes, bool]:
        if connection >= 3:
            return by_length(response), False
        error = Response(HTTPStatus(status))
        return by_length(error, "Content-Type: text/html", *fields, body=PAGE), False

    return style


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ([], 0),
        (["Retry-After: 120"], 120),
        (["Retry-After: 5000"], wire.dial.backoff.RETRY_AFTER_SECONDS_MAX),
        ([f"Date: {formatdate(NOW, usegmt=True)}", f"Retry-After: {formatdate(NOW + 60, usegmt=True)}"], 60),
        ([f"Retry-After: {formatdate(NOW, usegmt=True)}"], 0),
        (["Retry-After: <b>soon</b>"], 0),
    ],
)
def test_an_error_page_is_retried_after_its_delay_and_loses_nothing(
    pki: Hierarchy, status: int, fields: list[str], seconds: float, waits: list[float]
) -> None:
    """The page is longer than any reply; its status and header fields are used nevertheless."""
    center, _ = deliver(pki, error_page(status, *fields))
    assert sorted(center.reports) == [("CHEM-1", 1, n) for n in range(1, 1004)]
    assert len(waits) == 3 and all(seconds <= wait <= seconds + 0.01 for wait in waits)
    assert center.audits.count("far-end-refused") == 3


def test_a_login_page_with_status_200_is_not_an_acknowledgement(pki: Hierarchy, waits: list[float]) -> None:
    center, _ = deliver(pki, error_page(200))
    assert sorted(center.reports) == [("CHEM-1", 1, n) for n in range(1, 1004)]
    assert len(waits) == 3 and center.audits.count("far-end-nonsense") == 3
