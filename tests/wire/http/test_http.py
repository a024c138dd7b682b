"""Limits and order of HTTP messages, on a transport that only records the written bytes."""

from __future__ import annotations

import asyncio
from email.utils import formatdate

import pytest

from tests.support.wire.http_line import BODY_MAX, Line, answered, client_with, echo, post, settle
from wire.http.connection import (
    HEAD_BYTES_MAX,
    PIPELINE_MAX,
    ClientConnection,
    HttpError,
    Request,
    Response,
    ServerConnection,
)


def test_a_request_gets_a_complete_response() -> None:
    line = answered(post(b"abc"))
    assert line.sent == (
        b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 11\r\n\r\nPOST /x abc"
    )


@pytest.mark.parametrize("second", [0, 59, 86_399, 86_400, 951_782_400, 1_767_592_800, 4_102_444_799])
def test_the_date_header_has_the_format_of_rfc_9110(second: int) -> None:
    async def head() -> bytes:
        line = Line(ServerConnection(echo, BODY_MAX, lambda: second + 0.9, 60.0, lambda: None))
        line.protocol.data_received(post(b""))
        await settle()
        return line.sent

    assert f"\r\nDate: {formatdate(second, usegmt=True)}\r\n".encode() in asyncio.run(head())


def test_requests_split_at_any_byte_are_parsed() -> None:
    request = post(b"abc") + post(b"defg", "/other")
    expected = answered(request)
    assert answered(*(request[i : i + 1] for i in range(len(request)))).sent == expected.sent


def test_pipelined_requests_are_answered_in_order() -> None:
    async def slower_for_the_first(request: Request) -> Response:
        for _ in range(5 - int(request.body)):
            await asyncio.sleep(0)
        return Response(200, request.body)

    line = answered(b"".join(post(str(i).encode()) for i in range(4)), handler=slower_for_the_first)
    assert [part[:1] for part in line.sent.split(b"\r\n\r\n")[1:]] == [b"0", b"1", b"2", b"3"]


def test_pipelined_requests_up_to_the_limit_are_accepted() -> None:
    line = answered(post(b"") * PIPELINE_MAX)
    assert line.statuses() == [200] * PIPELINE_MAX


def test_one_pipelined_request_above_the_limit_closes_the_connection_after_the_responses() -> None:
    line = answered(post(b"") * (PIPELINE_MAX + 1))
    assert line.statuses() == [200] * PIPELINE_MAX + [429]
    assert line.closed


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    assert answered(post(bytes(BODY_MAX))).statuses() == [200]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(bytes(BODY_MAX + 1)), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * HEAD_BYTES_MAX + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n", 400),
    ],
)
def test_an_invalid_request_is_refused_once_and_closes_the_connection(
    request_bytes: bytes, status: int
) -> None:
    line = answered(request_bytes, post(b"not processed"), post(b"not processed"))
    assert line.statuses()[-1] == status
    assert b"not processed" not in line.sent
    assert line.closed


def test_an_unfinished_head_is_refused_at_the_size_limit() -> None:
    line = answered(b"GET / HTTP/1.1\r\nA: ", *[b"a" * 1024] * (HEAD_BYTES_MAX // 1024 + 1))
    assert line.statuses() == [431]


def test_a_head_just_below_the_limit_is_accepted_in_pieces() -> None:
    head = b"GET /y HTTP/1.1\r\nA: " + b"a" * (HEAD_BYTES_MAX - 100) + b"\r\n\r\n"
    line = answered(post(bytes(BODY_MAX)), *(head[i : i + 100] for i in range(0, len(head), 100)))
    assert line.statuses() == [200, 200]


def test_requests_after_a_closing_response_are_not_handled() -> None:
    handled = []

    async def refuse(request: Request) -> Response:
        handled.append(request.body)
        return Response(400, close=True)

    line = answered(post(b"1") + post(b"2"), post(b"3"), handler=refuse)
    assert (handled, line.statuses(), line.closed) == ([b"1"], [400], True)


def test_an_exception_in_a_handler_gives_500_and_is_reported_to_the_loop() -> None:
    async def broken(request: Request) -> Response:
        raise KeyError("a bug")

    async def exchange() -> tuple[Line, list[str]]:
        messages: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: messages.append(context["message"])
        )
        line = Line(ServerConnection(broken, BODY_MAX, lambda: 0.0, 60.0, lambda: None))
        line.protocol.data_received(post(b""))
        await settle()
        return line, messages

    line, messages = asyncio.run(exchange())
    assert (line.statuses(), line.closed, messages) == ([500], True, ["HTTP handler failed"])


def test_a_client_that_does_not_read_its_responses_gets_no_more_of_them() -> None:
    async def exchange() -> None:
        line = Line(ServerConnection(echo, BODY_MAX, lambda: 0.0, 60.0, lambda: None))
        line.protocol.pause_writing()
        line.protocol.data_received(post(b"1") + post(b"2"))
        await settle()
        assert line.sent == b""
        line.protocol.resume_writing()
        await settle()
        assert line.statuses() == [200, 200]

    asyncio.run(exchange())


def test_a_connection_lost_with_pending_responses_leaves_no_tasks() -> None:
    async def exchange() -> None:
        line = Line(ServerConnection(echo, BODY_MAX, lambda: 0.0, 60.0, lambda: None))
        line.protocol.pause_writing()
        line.protocol.data_received(post(b"1"))
        await settle()
        line.close()
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(exchange())


def test_a_client_matches_responses_to_pipelined_requests() -> None:
    async def use(client: ClientConnection, line: Line) -> object:
        first, second = client.request("POST", "/a", b"1"), client.request("POST", "/b", b"2")
        client.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 503 No\r\nContent-Len")
        client.data_received(b"gth: 0\r\n\r\n")
        return [(await first).status, (await first).body, (await second).status]

    assert client_with(use) == [200, b"1", 503]


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * (HEAD_BYTES_MAX + 1000),
    ],
)
def test_a_client_closes_the_connection_after_an_invalid_response(garbage: bytes) -> None:
    async def use(client: ClientConnection, line: Line) -> object:
        request = client.request("GET", "/")
        for i in range(0, len(garbage), 1000):
            client.data_received(garbage[i : i + 1000])
        with pytest.raises(HttpError):
            await request
        return line.closed and client.lost.done()

    assert client_with(use)


def test_a_client_closes_the_connection_after_an_unsolicited_response() -> None:
    async def use(client: ClientConnection, line: Line) -> object:
        client.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return line.closed and client.lost.done()

    assert client_with(use)


def test_pending_requests_of_a_client_fail_when_the_connection_is_lost() -> None:
    async def use(client: ClientConnection, line: Line) -> object:
        before = client.request("GET", "/")
        line.close()
        after = client.request("GET", "/")
        for request in (before, after):
            with pytest.raises(HttpError):
                await request
        return client.transport

    assert client_with(use) is None


def test_a_client_limits_heads_and_bodies_separately() -> None:
    async def use(client: ClientConnection, line: Line) -> object:
        request = client.request("POST", "/", b"12345")
        client.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        await request
        assert client.head_bytes_sent + client.body_bytes_sent == len(line.sent)
        return client.body_bytes_sent, client.body_bytes_received, client.head_bytes_received

    assert client_with(use) == (5, 3, 38)
