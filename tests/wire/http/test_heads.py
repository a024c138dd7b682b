"""A complete message is parsed to the same result, whether its head was seen before or not."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.wire.http_line import Line, echo
from wire.http import heads
from wire.http.connection import ClientConnection, HttpError, Request, Response, ServerConnection
from wire.http.heads import Head, whole_request, whole_response

DATE = b"Date: Mon, 05 Jan 2026 07:01:03 GMT\r\n"
REQUESTS = [
    b"POST /v1/reports HTTP/1.1\r\nHost: box\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/reports HTTP/1.1\r\nHOST: box\r\ncontent-length: 0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: box\r\n\r\n",
    b"\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na",
    b"\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na",
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
    b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n" + bytes(101),
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
    b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nX: " + b"x" * 600 + b"\r\nContent-Length: 0\r\n\r\n",
    b"POST  HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    b"nonsense\r\n\r\n",
]
OK = b"HTTP/1.1 200 OK\r\n"
RESPONSES = [
    OK + DATE + b"Content-Length: 2\r\n\r\nab",
    OK + b"Content-Length: 2\r\n" + DATE + b"\r\nab",
    OK + b"Content-Length: 2\r\n\r\nab",
    OK + DATE + DATE.replace(b"03", b"04") + b"Content-Length: 0\r\n\r\n",
    OK + DATE + b"date: x\r\nContent-Length: 0\r\n\r\n",
    OK + DATE[:-2] + b"\r\n y\r\nContent-Length: 0\r\n\r\n",
    OK + DATE.replace(b"Mon,", b"Mon\0") + b"Content-Length: 0\r\n\r\n",
    OK + DATE.replace(b" Mon, ", b"  Mon,") + b"Content-Length: 0\r\n\r\n",
    OK + b"Date: now\r\nContent-Length: 0\r\n\r\n",
    OK + DATE + b"Content-Length: 1\r\n\r\nab",
    OK + DATE + b"Content-Length: 101\r\n\r\n" + bytes(101),
    OK + DATE + b"\r\n",
    b"HTTP/1.1 204 No Content\r\n" + DATE + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n" + DATE + b"Content-Length: 2\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n" + DATE + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 \r\n" + DATE + b"Retry-After: 5\r\nContent-Length: 0\r\n\r\n",
    DATE + b"Content-Length: 0\r\n\r\n",
    b"\r\n" + DATE + OK + b"Content-Length: 0\r\n\r\n",
    OK + b"Content-Length: %d\r\n\r\nx\r\n" % (len(DATE) + 4) + DATE + b"y",
    OK + DATE + b"Content-Length: 6\r\n\r\na\r\n\r\nb",
    OK + DATE.replace(b"GMT", b"UTC") + b"Content-Length: 0\r\n\r\n",
    OK + DATE[:-2] + b"xx\r\nContent-Length: 0\r\n\r\n",
    b"\r\n\r\n" + OK + DATE + b"Content-Length: 0\r\n\r\n",
]


def served(chunks: list[bytes]) -> tuple[list[Request], bytes]:
    """Return the requests that a server received, and its responses."""
    requests: list[Request] = []

    async def handler(request: Request) -> Response:
        requests.append(request)
        return await echo(request)

    async def run() -> bytes:
        line = Line(ServerConnection(handler, 100, lambda: 0.0, 300.0, lambda: None))
        for chunk in chunks:
            if not line.closed:
                line.protocol.data_received(chunk)
                for _ in range(5):
                    await asyncio.sleep(0)
        return line.sent

    sent = asyncio.run(run())
    for request in requests:
        request.peer = None  # type: ignore[assignment]  # it differs between connections
    return requests, sent


def received(chunks: list[bytes]) -> tuple[list[object], str, int, int]:
    """Return the responses to a client's two requests, the last date, and the counted bytes."""

    async def run() -> tuple[list[object], str, int, int]:
        connection = ClientConnection("box", 100)
        line = Line(connection)
        futures = [connection.request("GET", "/") for _ in range(2)]
        for chunk in chunks:
            if not line.closed:
                connection.data_received(chunk)
        outcomes: list[object] = []
        for future in futures:
            error = future.exception() if future.done() else None
            outcomes.append(type(error) if error else future.result() if future.done() else None)
        counted = connection.head_bytes_received, connection.body_bytes_received
        return outcomes, connection.date, *counted

    return asyncio.run(run())


@pytest.mark.parametrize("message", REQUESTS)
def test_complete_requests_are_parsed_as_by_the_full_parser(message: bytes) -> None:
    in_parts = served([message[:1], message[1:]])
    assert served([message]) == in_parts
    assert served([message]) == in_parts, "from the cache"


@pytest.mark.parametrize("cut", [0, 1])
def test_no_header_field_hides_another_of_its_name(cut: int) -> None:
    message = b"POST / HTTP/1.1\r\nRap-Box: RAP-1\r\nrap-box: RAP-2\r\nContent-Length: 0\r\n\r\n"
    (request,), _ = served([part for part in (message[:cut], message[cut:]) if part])
    assert request.headers["rap-box"] == "RAP-1, RAP-2"


@pytest.mark.parametrize("message", RESPONSES)
def test_complete_responses_are_parsed_as_by_the_full_parser(message: bytes) -> None:
    in_parts = received([message[:1], message[1:]])
    at_once = received([message])
    assert at_once == received([message]), "from the cache"
    if HttpError not in in_parts[0]:  # of data that is not HTTP, the number of bytes read does not matter
        assert at_once == in_parts
    else:
        assert at_once[0] == in_parts[0]


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_only_common_requests_bypass_the_full_parser(number: int) -> None:
    assert (whole_request(REQUESTS[number]) is not None) == (number in (0, 1, 3, 9))


@pytest.mark.parametrize("number", range(len(RESPONSES)))
def test_only_common_responses_bypass_the_full_parser(number: int) -> None:
    assert (whole_response(RESPONSES[number]) is not None) == (number in (0, 1, 10, 15, 19))


def test_a_head_has_all_fields_of_its_message() -> None:
    headers = {"host": "box", "content-length": "3"}
    assert whole_request(REQUESTS[0]) == (Head("POST", "/v1/reports", 0, headers, 3), b"abc")
    date = DATE[6:-2].decode()
    for message in RESPONSES[:2]:
        assert whole_response(message) == (Head("", "", 200, {"content-length": "2"}, 2), date, b"ab")


def test_header_values_are_latin_1() -> None:
    request = whole_request(b"POST / HTTP/1.1\r\nX: \xe9\r\nContent-Length: 0\r\n\r\n")
    response = whole_response(OK + DATE + b"X: \xe9\r\nContent-Length: 0\r\n\r\n")
    assert request is not None
    assert response is not None
    assert request[0].headers["x"] == response[0].headers["x"] == "\xe9"


@pytest.mark.parametrize("version", [b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK\r\nConnection: close"])
def test_a_response_that_may_close_its_connection_is_left_to_the_full_parser(version: bytes) -> None:
    assert whole_response(version + b"\r\n" + DATE + b"Content-Length: 0\r\n\r\n") is None


@pytest.mark.parametrize("excess", [0, 1])
def test_heads_up_to_the_limit_are_cached(excess: int) -> None:
    end = b"\r\nContent-Length: 0\r\n\r\n"
    for start, parse in ((b"POST / HTTP/1.1\r\nX: ", whole_request), (OK + DATE + b"X: ", whole_response)):
        filler = b"x" * (heads.REMEMBERED_BYTES_MAX - len(start) - len(end) + excess)
        assert (parse(start + filler + end) is None) == bool(excess)


def test_a_partial_message_is_finished_before_a_complete_one_is_parsed() -> None:
    first, second = REQUESTS[0][:-1], b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    requests, _ = served([first, second])
    assert [request.body for request in requests] == [b"abP"], (
        "the body's last byte is the next chunk's first"
    )


def test_headers_changed_by_a_handler_do_not_change_the_cache() -> None:
    requests, _ = served([REQUESTS[0], REQUESTS[0]])
    requests[0].headers["host"] = "another"
    assert requests[1].headers["host"] == "box"
    assert served([REQUESTS[0]])[0][0].headers["host"] == "box"


def test_the_cache_of_heads_is_bounded() -> None:
    request = b"GET /%d HTTP/1.1\r\nContent-Length: 0\r\n\r\n"

    def head(number: int) -> Head:
        parsed = whole_request(request % number)
        assert parsed is not None
        return parsed[0]

    first = head(0)
    assert [head(number) for number in range(1, heads.REMEMBERED_MAX)]
    assert head(0) is first, "still cached"
    assert [head(number) for number in range(1, heads.REMEMBERED_MAX + 1)]
    assert head(0) is not first, "replaced by newer ones"
    long = b"GET / HTTP/1.1\r\nX: " + b"x" * heads.REMEMBERED_BYTES_MAX + b"\r\nContent-Length: 0\r\n\r\n"
    assert whole_request(long) is None


NAMES = st.sampled_from(
    [b"Host", b"content-length", b"Content-Length", b"Connection", b"X", b"Transfer-Encoding"]
)
VALUES = st.one_of(st.sampled_from([b"0", b"3", b"close", b"", b" 3 ", b"chunked"]), st.binary(max_size=4))


@given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=4), body=st.binary(max_size=5))
def test_any_complete_request_is_parsed_as_by_the_full_parser(
    headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    message = b"POST / HTTP/1.1\r\n" + lines + b"\r\n" + body
    assert served([message]) == served([message[:1], message[1:]])
