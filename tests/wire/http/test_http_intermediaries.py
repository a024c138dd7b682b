"""HTTP messages changed by intermediaries: framing, versions, codings and error pages."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from typing import Final

import pytest

from tests.support.wire.http_line import BODY_MAX, Line, answered, client_with
from wire.http.connection import (
    CHUNKING_FACTOR,
    HEAD_BYTES_MAX,
    ClientConnection,
    HttpError,
    HttpFinished,
    Response,
)
from wire.http.fields import date_s, uncompressed

CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
NEXT: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


def chunks(body: bytes, size: int, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    framed = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    return framed + b"0\r\n" + trailer + b"\r\n"


def received(*pieces: bytes, eof: bool = False, requests: int = 2) -> tuple[list[Response | Exception], Line]:
    """Return the results of requests when these bytes arrive, and with `eof` the end of the connection."""

    async def use(client: ClientConnection, line: Line) -> object:
        pending = [client.request("GET", "/") for _ in range(requests)]
        for piece in pieces:
            if not line.closed:
                client.data_received(piece)
        if eof and not line.closed:
            client.eof_received()
        line.close()
        return await asyncio.gather(*pending, return_exceptions=True), line

    return client_with(use)  # type: ignore[return-value]


@pytest.mark.parametrize("size", [1, 7, BODY_MAX])
@pytest.mark.parametrize("piece", [1, 13, 100_000])
def test_a_chunked_response_is_read_and_the_next_one_too(size: int, piece: int) -> None:
    body = bytes(range(BODY_MAX))
    data = CHUNKED + chunks(body, size) + NEXT
    (first, second), _ = received(*(data[i : i + piece] for i in range(0, len(data), piece)))
    assert isinstance(first, Response) and isinstance(second, Response)
    assert (first.status, first.body, second.status) == (200, body, 204)


def test_a_trailer_field_is_not_a_header_field() -> None:
    data = CHUNKED + chunks(b"abc", 3, trailer=b"Retry-After: 900\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n")
    (first, _), _ = received(data + NEXT)
    assert isinstance(first, Response)
    assert first.headers == {"transfer-encoding": "chunked"}


def test_a_chunked_body_is_limited_like_any_other() -> None:
    (first, second), line = received(CHUNKED + chunks(bytes(BODY_MAX + 1), 10))
    assert isinstance(first, Response) and (first.status, first.body) == (200, b"")
    assert isinstance(second, HttpError) and line.closed


@pytest.mark.parametrize(
    "padding",
    [b"1;" + b"x" * 1000, b"0\r\n" + b"A: b\r\n" * 200, b"0\r\nA: " + b"x" * 1000],
    ids=["extension", "trailer fields", "trailer field"],
)
def test_the_framing_overhead_of_a_chunked_body_is_bounded(padding: bytes) -> None:
    bound = 2 * HEAD_BYTES_MAX + CHUNKING_FACTOR * BODY_MAX
    more = padding.partition(b"\r\n")[2] or padding[2:]
    (first, _), _ = received(CHUNKED + padding, *[more] * (bound // len(more) + 1))
    assert isinstance(first, HttpError) and not isinstance(first, HttpFinished)
    assert "invalid HTTP/1.1 response" in str(first), (
        "the response ended because of the bound, and not with the connection"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\nab\r\n",
        CHUNKED + b"-1\r\nab\r\n",
        CHUNKED + b"fffffffffffffffff\r\nab\r\n",
        CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    ],
)
def test_invalid_framing_closes_the_connection(data: bytes) -> None:
    (first, second), line = received(data)
    assert isinstance(first, HttpError) and isinstance(second, HttpError) and line.closed


@pytest.mark.parametrize("status", [200, 502])
def test_a_response_without_a_length_ends_when_the_connection_closes(status: int) -> None:
    head = ENDLESS.replace(b"200 OK", b"%d X" % status)
    (first, second), _ = received(head + b"abc", b"def", eof=True)
    assert isinstance(first, Response) and (first.status, first.body) == (status, b"abcdef")
    assert isinstance(second, HttpFinished)


def test_an_aborted_connection_does_not_complete_a_response_without_a_length() -> None:
    """An end of the connection that TLS does not confirm may be an attack."""
    (first, _), _ = received(ENDLESS + b"abc", eof=False)
    assert isinstance(first, HttpError) and not isinstance(first, HttpFinished)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Ty",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        CHUNKED + b"3\r\nabc\r\n",
    ],
)
def test_a_connection_closed_within_a_response_is_an_error(data: bytes) -> None:
    (first, _), _ = received(data, eof=True)
    assert isinstance(first, HttpError)


def test_a_body_without_end_is_limited_like_any_other() -> None:
    (first, _), line = received(ENDLESS, *[b"x" * 10] * (BODY_MAX // 10 + 1), eof=False)
    assert isinstance(first, Response) and (first.status, first.body) == (200, b"") and line.closed


def test_a_response_without_a_body_completes_before_the_connection_closes() -> None:
    (first, second), _ = received(NEXT + b"HTTP/1.1 304 Not Modified\r\n\r\n")
    assert [r.status for r in (first, second) if isinstance(r, Response)] == [204, 304]
    (first, second), _ = received(NEXT, eof=True)
    assert isinstance(first, Response) and isinstance(second, HttpError), (
        "the response completes one request only"
    )


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("framing", [b"Content-Length: 20000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_an_error_page_longer_than_the_reply_limit_is_reported_by_its_status(
    status: int, framing: bytes
) -> None:
    head = b"HTTP/1.1 %d Bad\r\nRetry-After: 7\r\nContent-Type: text/html\r\n%s" % (status, framing)
    page = b"<html>" * 200
    (first, second), line = received(head + (chunks(page, 100) if b"chunked" in framing else page))
    assert isinstance(first, Response)
    assert (first.status, first.headers["retry-after"], first.body) == (status, "7", b"")
    assert isinstance(second, HttpError) and line.closed


@pytest.mark.parametrize("date", ["", "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"])
@pytest.mark.parametrize(
    ("version", "field", "stays"),
    [
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
    ],
)
def test_a_response_with_connection_close_ends_the_connection(
    version: str, field: str, stays: bool, date: str
) -> None:
    data = f"HTTP/{version} 200 OK\r\n{field}{date}Content-Length: 3\r\n\r\nabc".encode()

    async def use(client: ClientConnection, line: Line) -> object:
        pending = [client.request("GET", "/") for _ in range(2)]
        client.data_received(data)
        assert (await pending[0]).body == b"abc"
        assert pending[1].done() == (not stays)
        if not stays:
            with pytest.raises(HttpFinished):
                await pending[1]
            with pytest.raises(HttpError):
                await client.request("GET", "/")
        return line.closed, client.is_finished

    assert client_with(use) == (not stays, not stays)


@pytest.mark.parametrize("field", [b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b""])
def test_unrequested_gzip_is_decompressed_whatever_the_header_says(field: bytes) -> None:
    body = gzip.compress(b"hello")
    for date in (b"", b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"):
        data = b"HTTP/1.1 200 OK\r\n%s%sContent-Length: %d\r\n\r\n" % (field, date, len(body)) + body
        (first, _), _ = received(data, NEXT)
        assert isinstance(first, Response) and first.body == b"hello"


def test_a_body_without_content_coding_is_unchanged_whatever_the_header_says() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"
    (first, _), _ = received(data + NEXT)
    assert isinstance(first, Response) and first.body == b"hello"


def test_a_body_that_cannot_be_decompressed_within_the_limit_is_unchanged() -> None:
    compressed = gzip.compress(b"x" * 1000)
    assert uncompressed(compressed, 1000) == b"x" * 1000
    for body in (compressed[:-1], compressed[:12], b"\x1f\x8b\x08" + b"y" * 30, b"\x1f\x8b", b""):
        assert uncompressed(body, 1000) == body
    bomb = gzip.compress(bytes(10_000_000))
    tracemalloc.start()
    assert uncompressed(bomb, 100_000) == bomb
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1_000_000, "the oversized body was decompressed before it was refused"
    assert uncompressed(compressed, 999) == compressed


@pytest.mark.parametrize("size", [1, BODY_MAX])
def test_a_chunked_request_is_read_within_the_limit(size: int) -> None:
    def post(body: bytes) -> bytes:
        return b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(body, size, b";a=b")

    body = b"a" * BODY_MAX
    line = answered(post(body) * 2)
    assert line.statuses() == [200, 200] and line.sent.count(b"POST /x " + body) == 2
    line = answered(post(body + b"b"))
    assert line.statuses() == [413] and line.closed
    endless = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    line = answered(endless, *[b"x" * 1000] * (2 * HEAD_BYTES_MAX // 1000 + CHUNKING_FACTOR))
    assert line.statuses() == [413] and line.closed


@pytest.mark.parametrize(
    "value",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_all_three_date_formats_are_parsed_as_utc(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    import time

    time.tzset()
    try:
        assert date_s(value) == 784111777
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "value", ["", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "120", "\xff", "Sun, 06 Nov 1"]
)
def test_an_invalid_date_gives_none(value: str) -> None:
    assert date_s(value) is None
