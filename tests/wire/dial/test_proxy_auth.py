"""Responses of proxies in hospitals: interim responses, authentication by challenge, and bodies that must be read."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from base64 import b64decode, b64encode
from pathlib import Path

import msgspec
import pytest
import spnego

from settings.types import Endpoint, Proxy
from tests.support.agents.stand_in import stand_in
from tests.support.crypto.hierarchy import Hierarchy
from wire.dial.dialer import dial
from wire.dial.proxies import proxy_conversation
from wire.dial.proxies.http import INTERIM_MAX
from wire.dial.proxy import Handshake, ProxyError, ProxyErrorKind
from wire.dial.proxy_auth import Challenge, Digest, choose, parse_challenges
from wire.http.connection import ClientConnection
from wire.tls.context import client_context

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
USER = {"user": "Mufasa", "password": "Circle Of Life"}


def response_407(*fields: str, body: bytes = b"") -> bytes:
    lines = ["HTTP/1.1 407 Proxy Authentication Required", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def handshake(**fields: str) -> Handshake:
    proxy = Proxy(**({"kind": "http", "host": "p", "port": 3128} | fields))  # type: ignore[arg-type]
    return Handshake(proxy_conversation(proxy, "ingest.lab", 443))


def authorization(request: bytes) -> str:
    lines = request.decode().split("\r\n")
    return next((line.partition(": ")[2] for line in lines if line.startswith("Proxy-Authorization")), "")


@pytest.mark.parametrize("count", [1, 2, INTERIM_MAX])
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_interim_responses_are_not_refusals(count: int, piece: int) -> None:
    handshake_under_test = handshake()
    responses = (
        b"HTTP/1.1 100 Continue\r\n\r\n" * (count - 1) + b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n" + OK
    )
    for start in range(0, len(responses), piece):
        assert not handshake_under_test.done
        handshake_under_test.receive(responses[start : start + piece])
    assert handshake_under_test.done


def test_endless_interim_responses_are_an_error() -> None:
    with pytest.raises(ProxyError) as caught:
        handshake().receive(b"HTTP/1.1 100 Continue\r\n\r\n" * (INTERIM_MAX + 1))
    assert caught.value.kind is ProxyErrorKind.PROTOCOL_ERROR


@pytest.mark.parametrize("host", ["2001:db8::5", "fe80::1%eth0"])
def test_an_ipv6_address_is_in_brackets_and_has_no_zone(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = host.partition("%")[0]
    request = Handshake(proxy_conversation(Proxy("http", "p", 3128), host, 8443)).to_send
    assert request.startswith(f"CONNECT [{bare}]:8443 HTTP/1.1\r\nHost: [{bare}]:8443\r\n".encode())
    socks = Handshake(proxy_conversation(Proxy("socks5", "p", 1080), host, 8443))
    assert socks.receive(b"\x05\x00")[:4] == b"\x05\x01\x00\x04"

    authorities: list[str] = []

    def recording(authority: str, body_bytes_max: int) -> ClientConnection:
        authorities.append(authority)
        return ClientConnection(authority, body_bytes_max)

    async def refused(*_args: object, **_kwargs: object) -> None:
        raise ConnectionRefusedError

    async def authority() -> None:
        monkeypatch.setattr("wire.dial.dialer.ClientConnection", recording)
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refused)
        with pytest.raises(ConnectionRefusedError):
            await dial(Endpoint(host, 8443), ssl.create_default_context(), reply_bytes_max=10)

    asyncio.run(authority())
    assert authorities == [f"[{bare}]:8443"]


@pytest.mark.parametrize("host", ["ingest..example.com", ".example.com", "a" * 64 + ".example.com", "a\0b"])
@pytest.mark.parametrize("proxy", [None, "http", "socks5"])
def test_an_impossible_host_name_is_an_os_error(host: str, proxy: str | None) -> None:
    through = Proxy(proxy, host, 3128) if proxy else None  # type: ignore[arg-type]
    with pytest.raises(OSError):
        asyncio.run(
            dial(Endpoint(host, 443), ssl.create_default_context(), reply_bytes_max=10, proxy=through)
        )


def test_basic_credentials_are_encoded_in_utf_8() -> None:
    request = handshake(user="jürgen", password="пароль").to_send
    assert b64decode(authorization(request).removeprefix("Basic ")).decode() == "jürgen:пароль"


@pytest.mark.parametrize("key", ["user", "password"])
def test_socks_credentials_have_at_most_255_bytes(key: str) -> None:
    table = {"kind": "socks5", "host": "p", "port": 1080, "user": "u", "password": "p"}
    proxy = msgspec.convert(table | {key: "é" * 127 + "x"}, Proxy)
    conversation = Handshake(proxy_conversation(proxy, "ingest.lab", 443))
    assert b"\xc3\xa9" * 127 in conversation.receive(b"\x05\x02")
    with pytest.raises(
        msgspec.ValidationError, match=f"`{key}` has 256 bytes in UTF-8.*maximum for SOCKS5 is 255"
    ):
        msgspec.convert(table | {key: "é" * 128}, Proxy)


def test_digest_responses_equal_the_examples_of_rfc_7616(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of 3.9.1 with the method CONNECT; the expected hash is computed as in 3.4.1."""
    for algorithm, hashed in (("MD5", "md5"), ("SHA-256", "sha256")):
        field = f'Digest realm="http-auth", qop="auth, auth-int", algorithm={algorithm}, nonce="n1", opaque="o/p=="'
        (challenge,) = parse_challenges([field])
        monkeypatch.setattr("secrets.token_hex", lambda _bytes: "cn")
        answer = Digest("Mufasa", "Circle Of Life", "ingest.lab:443").answer(challenge)
        assert answer is not None
        (response,) = parse_challenges([answer])

        def digest(text: str, algorithm: str = hashed) -> str:
            return hashlib.new(algorithm, text.encode()).hexdigest()

        secret, request = digest("Mufasa:http-auth:Circle Of Life"), digest("CONNECT:ingest.lab:443")
        assert response.parameters["response"] == digest(f"{secret}:n1:00000001:cn:auth:{request}")
        assert response.parameters["opaque"] == "o/p==" and response.parameters["username"] == "Mufasa"


def test_a_challenge_is_answered_on_the_same_connection_and_its_body_is_read() -> None:
    handshake_under_test = handshake(basic="never", **USER)
    assert authorization(handshake_under_test.to_send) == ""
    body = b"<html>\r\n\r\nHTTP/1.1 200 no\r\n\r\n</html>"
    reply = handshake_under_test.receive(
        response_407('Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth"', body=body)
    )
    assert authorization(reply).startswith("Digest ") and not handshake_under_test.done
    stale = 'Proxy-Authenticate: Digest realm="r", nonce="n2", qop="auth", stale=true'
    assert 'nonce="n2"' in authorization(handshake_under_test.receive(response_407(stale)))
    handshake_under_test.receive(OK)
    assert handshake_under_test.done


def test_a_chunked_body_of_a_refusal_is_read() -> None:
    handshake_under_test = handshake(basic="offered", **USER)
    head = b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="r"\r\nTransfer-Encoding: chunked\r\n\r\n'
    reply = handshake_under_test.receive(head + b"4;x=y\r\nab\r\n\r\n2\r\ncd\r\n0\r\nTrailer: 1\r\n\r\n")
    assert authorization(reply).startswith("Basic ")
    handshake_under_test.receive(OK)
    assert handshake_under_test.done


@pytest.mark.parametrize("offered", ["Basic", "Digest", "NTLM"])
def test_a_wrong_password_ends_with_an_error_and_not_in_a_loop(offered: str) -> None:
    handshake_under_test = handshake(basic="offered", **USER)
    field = (
        f'Proxy-Authenticate: {offered} realm="r", nonce="n"'
        if offered != "NTLM"
        else "Proxy-Authenticate: NTLM"
    )
    with pytest.raises(ProxyError) as caught:
        for _ in range(10):
            handshake_under_test.receive(response_407(field))
    assert caught.value.kind is ProxyErrorKind.REFUSED_AUTH


def test_the_strongest_scheme_is_chosen_and_basic_is_not_used_if_forbidden() -> None:
    offers = ['Basic realm="a, b", Digest realm="r", nonce="m", algorithm=MD5', "NTLM"]
    assert [c.scheme for c in parse_challenges(offers)] == ["basic", "digest", "ntlm"]
    assert choose(parse_challenges(offers)).scheme == "ntlm"  # type: ignore[union-attr]
    digests = ["MD5", "SHA-256", "SHA-1024"]
    offers = [f'Digest realm="r", nonce="{name}", algorithm={name}' for name in digests]
    assert choose(parse_challenges(offers)).parameters["algorithm"] == "SHA-256"  # type: ignore[union-attr]
    assert choose([Challenge("bearer", {})]) is None
    with pytest.raises(ProxyError):
        handshake(basic="never", **USER).receive(response_407('Proxy-Authenticate: Basic realm="r"'))


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
def test_ntlm_authenticates_to_a_server(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyspnego is the server; it reads the password from a file."""
    accounts = tmp_path / "accounts"
    accounts.write_text("CLINIC:rap-box:sécret\n", "utf-8")
    monkeypatch.setenv("NTLM_USER_FILE", str(accounts))
    protocol = scheme.lower()
    options = (
        spnego.NegotiateOptions.use_ntlm if protocol == "ntlm" else spnego.NegotiateOptions.use_negotiate
    )
    server = spnego.server(protocol=protocol, options=options)
    handshake_under_test = handshake(user="rap-box", password="sécret", domain="CLINIC", basic="never")
    reply = handshake_under_test.receive(response_407(f"Proxy-Authenticate: {scheme}"))
    for _ in range(3):
        token = server.step(b64decode(authorization(reply).partition(" ")[2]))
        if server.complete:
            break
        assert token is not None
        reply = handshake_under_test.receive(
            response_407(f"Proxy-Authenticate: {scheme} {b64encode(token).decode()}", body=b"denied")
        )
    assert server.complete and server.client_principal == "CLINIC\\rap-box"
    handshake_under_test.receive(OK)
    assert handshake_under_test.done


DIGEST = 'Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth"'
CLOSING = {
    "connection": f"HTTP/1.1 407 No\r\n{DIGEST}\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!",
    "proxy-connection": f"HTTP/1.1 407 No\r\n{DIGEST}\r\nProxy-Connection: Close\r\nContent-Length: 0\r\n\r\n",
    "http/1.0": f"HTTP/1.0 407 No\r\n{DIGEST}\r\nContent-Length: 3\r\n\r\nno!",
    "no length": f"HTTP/1.1 407 No\r\n{DIGEST}\r\n\r\nno!",
}


@pytest.mark.parametrize("responses", CLOSING.values(), ids=CLOSING)
@pytest.mark.parametrize("basic", ["first", "never"])
def test_a_challenge_that_closes_the_connection_is_answered_on_a_new_one(responses: str, basic: str) -> None:
    handshake_under_test = handshake(basic=basic, **USER)
    for byte in responses.encode():
        assert handshake_under_test.receive(bytes([byte])) == b""
    assert handshake_under_test.must_reconnect and not handshake_under_test.done
    handshake_under_test.reconnect()
    assert not handshake_under_test.must_reconnect
    assert authorization(handshake_under_test.to_send).startswith("Digest ")
    handshake_under_test.receive(OK)
    assert handshake_under_test.done


def test_reconnecting_to_a_proxy_that_closes_after_each_challenge_is_bounded() -> None:
    handshake_under_test = handshake(basic="never", **USER)
    stale = CLOSING["connection"].replace('nonce="n"', 'nonce="n", stale=true').encode()
    with pytest.raises(ProxyError) as caught:
        for _ in range(20):
            handshake_under_test.receive(stale)
            handshake_under_test.reconnect()
    assert caught.value.kind is ProxyErrorKind.REFUSED_AUTH


def test_ntlm_can_begin_but_not_continue_on_a_new_connection() -> None:
    handshake_under_test = handshake(basic="never", **USER)
    handshake_under_test.receive(b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nConnection: close\r\n\r\n")
    handshake_under_test.reconnect()
    assert authorization(handshake_under_test.to_send).startswith("NTLM ")
    with pytest.raises(ProxyError):
        handshake_under_test.receive(
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM TlRMTVNTUAACAAAA\r\nConnection: close\r\n\r\n"
        )


@pytest.mark.parametrize("responses", CLOSING.values(), ids=CLOSING)
def test_the_box_reconnects_to_a_proxy_that_closes(pki: Hierarchy, responses: str) -> None:
    """Dial through a real proxy that serves one request on each connection."""
    requests: list[str] = []

    async def run() -> None:
        async with stand_in(pki.datacenter) as center:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
                if "Digest" not in requests[-1]:
                    writer.write(responses.encode())
                    writer.close()
                    return
                upstream_reader, upstream_writer = await asyncio.open_connection(
                    "127.0.0.1", center.server.port
                )
                writer.write(OK)
                await asyncio.gather(forward(reader, upstream_writer), forward(upstream_reader, writer))

            async with await asyncio.start_server(serve, "127.0.0.1", 0) as site:
                proxy = Proxy("http", "127.0.0.1", site.sockets[0].getsockname()[1], **USER, basic="never")
                far_end = Endpoint("127.0.0.1", center.server.port)
                connection = await dial(far_end, client_context(pki.box), reply_bytes_max=999, proxy=proxy)
                connection.abort()

    asyncio.run(run())
    assert len(requests) == 2


async def forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(10_000):
        target.write(data)
    target.close()
