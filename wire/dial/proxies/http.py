"""The client's side of HTTP CONNECT (RFC 9110, 9.3.6), with the schemes of `wire.dial.proxy_auth`."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from settings.types import Proxy
from wire.dial.proxy import RECONNECT, Conversation, ProxyError, ProxyErrorKind
from wire.dial.proxy_auth import Basic, Challenge, Digest, Scheme, Spnego, basic, choose, parse_challenges
from wire.http.connection import bracketed

EXCHANGES_MAX: Final = 5
"""Maximum requests of a handshake, over all its connections: NTLM takes three, and a stale Digest nonce one more."""
INTERIM_MAX: Final = 16
"""Maximum interim responses before a final one."""


def authority(host: str, port: int) -> str:
    """Format `host`:`port` for a URI: IPv6 addresses in brackets, without zone (RFC 3986, 3.2.2)."""
    return f"{bracketed(host)}:{port}"


def conversation(proxy: Proxy, host: str, port: int) -> Conversation:
    """Request a tunnel to `host`:`port`; authenticate if the proxy requires it."""
    target = authority(host, port)
    credentials = basic(proxy.user, proxy.password) if proxy.user and proxy.basic == "first" else None
    scheme: Scheme | None = None
    chosen = ""
    for _ in range(EXCHANGES_MAX):
        reply = yield from _connect_request(target, credentials)
        if 200 <= reply.status < 300:
            return
        if reply.status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise ProxyError(
                ProxyErrorKind.REFUSED, f"the proxy refused the request with status {reply.status}"
            )
        yield from _skip_body(reply)
        offered = [
            offer
            for offer in parse_challenges(reply.challenges)
            if offer.scheme != "basic" or _may_be_basic(proxy)
        ]
        challenge = choose([offer for offer in offered if offer.scheme == chosen] or offered)
        if not proxy.user or challenge is None or (challenge.token and not reply.keep_alive):
            break  # a token belongs to the authentication of this connection
        if scheme is None:
            scheme, chosen = _begin(challenge, proxy, target), challenge.scheme
        credentials = scheme.answer(challenge)
        if credentials is None:
            break
        if not reply.keep_alive:
            yield b"", RECONNECT
    raise ProxyError(ProxyErrorKind.REFUSED_AUTH, "the proxy requires other credentials (status 407)")


def _may_be_basic(proxy: Proxy) -> bool:
    """Return whether Basic may be tried now; if it was sent first, it has been refused."""
    return proxy.basic == "offered"


def _begin(challenge: Challenge, proxy: Proxy, target: str) -> Scheme:
    if challenge.scheme == "basic":
        return Basic(proxy.user, proxy.password)
    if challenge.scheme == "digest":
        return Digest(proxy.user, proxy.password, target)
    user = f"{proxy.domain}\\{proxy.user}" if proxy.domain else proxy.user
    return Spnego(challenge.scheme, user, proxy.password, proxy.host)


@dataclass(frozen=True, slots=True)
class _Reply:
    """The header of a proxy's final response."""

    status: int
    challenges: list[str]
    length: int | None
    """Length of the body; None for a chunked one."""
    keep_alive: bool
    """Whether the connection remains open after the response."""


def _connect_request(
    target: str, credentials: str | None
) -> Generator[tuple[bytes, int | bytes], bytes, _Reply]:
    """Send CONNECT; return the final response's header, skipping interim responses (RFC 9110, 15.2)."""
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if credentials is not None:
        head += f"Proxy-Authorization: {credentials}\r\n"
    to_send = f"{head}\r\n".encode()
    for _ in range(INTERIM_MAX + 1):
        reply = yield to_send, b"\r\n\r\n"
        to_send = b""
        status_line = re.match(rb"HTTP/1\.([01]) ([1-5][0-9]{2})( [^\r\n]*)?\r\n", reply)
        if status_line is None:
            raise ProxyError(ProxyErrorKind.PROTOCOL_ERROR, "the proxy's reply is not HTTP/1.1")
        status = int(status_line[2])
        if status >= 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:
            return _reply(status, status_line[1] == b"1", reply)
    raise ProxyError(
        ProxyErrorKind.PROTOCOL_ERROR, f"the proxy sent more than {INTERIM_MAX} interim responses"
    )


def _reply(status: int, is_http11: bool, head: bytes) -> _Reply:
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
    fields = [(name.strip().lower(), value.strip()) for name, _, value in lines]
    connection = " ".join(
        value.lower() for name, value in fields if name in ("connection", "proxy-connection")
    )
    chunked = any(name == "transfer-encoding" and "chunked" in value.lower() for name, value in fields)
    lengths = [
        value for name, value in fields if name == "content-length" and value.isascii() and value.isdigit()
    ]
    keep_alive = (is_http11 or "keep-alive" in connection) and "close" not in connection
    length = None if chunked else int(lengths[0][:9]) if lengths else 0
    challenges = [value for name, value in fields if name == "proxy-authenticate"]
    return _Reply(status, challenges, length, keep_alive and (chunked or bool(lengths)))


def _skip_body(reply: _Reply) -> Generator[tuple[bytes, int | bytes], bytes, None]:
    """Read the body of a response after which the connection stays open."""
    if not reply.keep_alive:
        return
    if reply.length is not None:
        if reply.length:
            yield b"", reply.length
        return
    while True:
        line = yield b"", b"\r\n"
        size = re.match(rb"[0-9A-Fa-f]{1,8}(?=[;\s])", line)
        if size is None:
            raise ProxyError(
                ProxyErrorKind.PROTOCOL_ERROR, "the body of the proxy's response is not validly chunked"
            )
        if not int(size[0], 16):
            break
        yield b"", int(size[0], 16) + 2
    while (yield b"", b"\r\n") != b"\r\n":
        pass  # a trailer field
