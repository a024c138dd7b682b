"""Handshakes with proxies, first message by message, then through sockets to a TLS server."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import wire.dial.dialer
from settings.types import Endpoint, Proxy
from tests.support.agents.stand_in import stand_in
from tests.support.crypto.hierarchy import Hierarchy
from wire.dial.dialer import dial
from wire.dial.proxies import proxy_conversation
from wire.dial.proxy import REPLY_BYTES_MAX, Handshake, ProxyError, ProxyErrorKind
from wire.dial.traffic import Traffic
from wire.tls.context import client_context

HTTP = Proxy("http", "127.0.0.1", 3128)
HTTP_AUTH = Proxy("http", "127.0.0.1", 3128, "lab", "open sesame")
SOCKS = Proxy("socks5", "127.0.0.1", 1080)
SOCKS_AUTH = Proxy("socks5", "127.0.0.1", 1080, "lab", "sesame")
NAME = b"\x03\x0aingest.lab\x01\xbb"
CONNECTED = b"\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34"


def talk(proxy: Proxy, *replies: bytes, host: str = "ingest.lab") -> tuple[list[bytes], bool]:
    """Return the requests sent in answer to these replies, and whether the connection is established."""
    handshake = Handshake(proxy_conversation(proxy, host, 443))
    sent = [handshake.to_send]
    sent += [handshake.receive(reply) for reply in replies]
    return sent, handshake.done


def error_kind(proxy: Proxy, *replies: bytes) -> ProxyErrorKind:
    with pytest.raises(ProxyError) as caught:
        talk(proxy, *replies)
    return caught.value.kind


def test_an_http_proxy_connects_with_connect() -> None:
    sent, done = talk(HTTP, b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
    assert sent[0] == b"CONNECT ingest.lab:443 HTTP/1.1\r\nHost: ingest.lab:443\r\n\r\n"
    assert done


def test_connect_sends_credentials_and_an_ipv6_address() -> None:
    sent, _ = talk(HTTP_AUTH, host="2001:db8::1")
    assert sent[0].startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + b64encode(b"lab:open sesame") + b"\r\n" in sent[0]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ProxyErrorKind.REFUSED_AUTH),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", ProxyErrorKind.REFUSED),
        (b"HTTP/1.1 502\r\n\r\n", ProxyErrorKind.REFUSED),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ProxyErrorKind.PROTOCOL_ERROR),
        (b"HTTP/1.1 2000 OK\r\n\r\n", ProxyErrorKind.PROTOCOL_ERROR),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", ProxyErrorKind.PROTOCOL_ERROR),
        (b"HTTP/1.1 200 OK\r\n" + bytes(REPLY_BYTES_MAX), ProxyErrorKind.PROTOCOL_ERROR),
    ],
)
def test_refusals_of_an_http_proxy_are_named(reply: bytes, kind: ProxyErrorKind) -> None:
    assert error_kind(HTTP, reply) is kind


def test_an_http_reply_of_exactly_the_limit_is_read() -> None:
    start, end = b"HTTP/1.1 200 OK\r\nX: ", b"\r\n\r\n"
    reply = start + b"x" * (REPLY_BYTES_MAX - len(start) - len(end)) + end
    assert talk(HTTP, reply)[1]


def test_socks_without_authentication_lets_the_proxy_resolve_the_name() -> None:
    sent, done = talk(SOCKS, b"\x05\x00", CONNECTED)
    assert sent == [b"\x05\x01\x00", b"\x05\x01\x00" + NAME, b""]
    assert done


def test_socks_with_a_password_and_replies_in_single_bytes() -> None:
    replies = b"\x05\x02" + b"\x01\x00" + b"\x05\x00\x00\x03\x02ab\x00\x50"
    sent, done = talk(SOCKS_AUTH, *(bytes([byte]) for byte in replies))
    assert b"".join(sent) == b"\x05\x02\x00\x02" + b"\x01\x03lab\x06sesame" + b"\x05\x01\x00" + NAME
    assert done


def test_each_socks_address_type_is_read() -> None:
    assert talk(SOCKS, b"\x05\x00", host="10.0.0.9")[0][1] == b"\x05\x01\x00\x01\x0a\x00\x00\x09\x01\xbb"
    assert talk(SOCKS, b"\x05\x00", host="::1")[0][1] == b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x01\xbb"
    assert talk(SOCKS, b"\x05\x00", b"\x05\x00\x00\x04" + bytes(18))[1]


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ([b"\x05\xff"], ProxyErrorKind.REFUSED_AUTH),
        ([b"\x05\x02", b"\x01\x01"], ProxyErrorKind.REFUSED_AUTH),
        ([b"\x05\x00", b"\x05\x02\x00\x01"], ProxyErrorKind.REFUSED),
        ([b"\x05\x00", b"\x05\x63\x00\x01"], ProxyErrorKind.REFUSED),
        ([b"\x04\x00"], ProxyErrorKind.PROTOCOL_ERROR),
        ([b"\x05\x01"], ProxyErrorKind.PROTOCOL_ERROR),
        ([b"\x05\x00", b"\x04\x00\x00\x01"], ProxyErrorKind.PROTOCOL_ERROR),
        ([b"\x05\x00", b"\x05\x00\x00\x02"], ProxyErrorKind.PROTOCOL_ERROR),
        ([b"\x05\x00", CONNECTED + b"!"], ProxyErrorKind.PROTOCOL_ERROR),
    ],
)
def test_refusals_of_a_socks_proxy_are_named(replies: list[bytes], kind: ProxyErrorKind) -> None:
    assert error_kind(SOCKS_AUTH, *replies) is kind


def test_a_socks_method_that_was_not_offered_is_a_protocol_error() -> None:
    assert error_kind(SOCKS, b"\x05\x02") is ProxyErrorKind.PROTOCOL_ERROR


# -- through sockets ------------------------------------------------------------------------------------

Greet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


@contextlib.asynccontextmanager
async def proxy_server(greet: Greet, target: int) -> AsyncIterator[int]:
    """Run a proxy that connects to `target` if `greet` returns true; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await greet(reader, writer):
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(pump(reader, target_writer), pump(target_reader, writer))
        writer.close()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def connect_greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    allowed = b64encode(b"lab:sesame") in head and head.startswith(b"CONNECT localhost:")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if allowed else b"HTTP/1.1 407 No\r\n\r\n")
    return allowed


async def socks_greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await reader.readexactly(4)
    writer.write(b"\x05\x02")
    allowed = await reader.readexactly(12) == b"\x01\x03lab\x06sesame"
    writer.write(b"\x01\x00" if allowed else b"\x01\x01")
    if allowed:
        await reader.readexactly(7 + len("localhost"))
        writer.write(CONNECTED)
    return allowed


GREETINGS = {"http": connect_greeting, "socks5": socks_greeting}


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_tls_works_through_a_proxy(pki: Hierarchy, kind: str) -> None:
    async def scenario() -> None:
        async with (
            stand_in(pki.datacenter) as center,
            proxy_server(GREETINGS[kind], center.server.port) as port,
        ):
            traffic = Traffic()
            proxy = Proxy(kind, "127.0.0.1", port, "lab", "sesame")  # type: ignore[arg-type]
            far_end = Endpoint("localhost", center.server.port)
            tls = client_context(pki.box)
            connection = await dial(far_end, tls, proxy=proxy, traffic=traffic, reply_bytes_max=100)
            response = await connection.request("POST", "/v1/batches", b"nonsense")
            assert response.status == 409
            assert traffic.proxy_bytes_sent > 20
            assert traffic.proxy_bytes_received == (19 if kind == "http" else 14)
            connection.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_wrong_password_is_distinguished_from_other_refusals(pki: Hierarchy, kind: str) -> None:
    async def scenario() -> None:
        async with proxy_server(GREETINGS[kind], 9) as port:
            proxy = Proxy(kind, "127.0.0.1", port, "lab", "cumin?")  # type: ignore[arg-type]
            with pytest.raises(ProxyError) as caught:
                await dial(
                    Endpoint("localhost", 443), client_context(pki.box), proxy=proxy, reply_bytes_max=100
                )
            assert caught.value.kind is ProxyErrorKind.REFUSED_AUTH

    asyncio.run(scenario())


def test_a_proxy_that_closes_or_sends_nothing_is_an_error(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bool:
        return False

    async def sends_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bool:
        await reader.read()
        return False

    async def scenario() -> None:
        monkeypatch.setattr(wire.dial.dialer, "PROXY_SECONDS_MAX", 0.01)
        for greet, kind in ((hangs_up, ProxyErrorKind.LOST), (sends_nothing, ProxyErrorKind.TIMEOUT)):
            async with proxy_server(greet, 9) as port:
                proxy = Proxy("http", "127.0.0.1", port)
                with pytest.raises(ProxyError) as caught:
                    await dial(
                        Endpoint("localhost", 443), client_context(pki.box), proxy=proxy, reply_bytes_max=100
                    )
                assert caught.value.kind is kind

    asyncio.run(scenario())
