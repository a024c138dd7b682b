"""Client side of proxy protocols: HTTP CONNECT (RFC 9110, 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).

Both are written without I/O as generators: each `yield` gives the bytes to send and the part to wait for, which is
either a number of bytes or a terminating delimiter, and receives that part. RECONNECT waits for a new connection to
the proxy. Host names are passed to the proxy unresolved, so that it and not the box resolves them.

No data may follow the proxy's final reply: in TLS, which comes next, the client speaks first.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from settings.types import Proxy
from wire.dial.proxy_auth import Basic, Challenge, Digest, Scheme, Spnego, basic, choose, parse_challenges
from wire.http.connection import bracketed, without_zone

REPLY_BYTES_MAX: Final = 64 * 1024
"""Maximum bytes from the proxy during the handshake."""

EXCHANGES_MAX: Final = 5
"""Maximum requests per connection: NTLM takes three, Digest one more if its nonce is stale."""
RECONNECT: Final = -1
"""A conversation waits for this when the proxy closes the connection but the next request may succeed."""
INTERIM_MAX: Final = 16
"""Maximum interim responses before a final one."""
Conversation: TypeAlias = Generator[tuple[bytes, int | bytes], bytes, None]


class ProxyErrorKind(StrEnum):
    """Error kinds, by what the site's administrator can do about them."""

    REFUSED_AUTH = "refused-auth"  # the proxy requires a user and password, or other ones
    REFUSED = "refused"  # the proxy does not connect to this destination (policy, unreachable)
    PROTOCOL_ERROR = "garbage"  # the reply does not conform to the protocol
    TIMEOUT = "timeout"  # no reply in time
    LOST = "lost"  # the proxy closed the connection


class ProxyError(Exception):
    """The proxy did not establish the connection; callers branch on `kind` alone."""

    def __init__(self, kind: ProxyErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def proxy_conversation(proxy: Proxy, host: str, port: int) -> Conversation:
    """Return the conversation that makes `proxy` connect to `host`:`port`. It raises ProxyError."""
    return (_http if proxy.kind == "http" else _socks5)(proxy, host, port)


class Handshake:
    """Runs a conversation on received data. Send `to_send` first; the handshake is complete when `done`.

    If `must_reconnect`, the proxy closes this connection: open another, and call `reconnect` for its `to_send`.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._received = b""
        self._bytes = 0
        self.done = False
        self.to_send, self._wanted = next(conversation)

    @property
    def must_reconnect(self) -> bool:
        """Whether the handshake must continue on a new connection."""
        return not self.done and self._wanted == RECONNECT

    def reconnect(self) -> None:
        """Continue on a new connection; `to_send` is its first data."""
        self._received = b""
        self.to_send, self._wanted = self._conversation.send(b"")

    def receive(self, data: bytes) -> bytes:
        """Process received data; return the reply. Raises: ProxyError REFUSED_AUTH, REFUSED, PROTOCOL_ERROR."""
        self._received += data
        self._bytes += len(data)
        replies = []
        while not self.done and (part := self._take()) is not None:
            try:
                reply, self._wanted = self._conversation.send(part)
                replies.append(reply)
            except StopIteration:
                self.done = True
        if self._bytes > REPLY_BYTES_MAX:
            raise ProxyError(
                ProxyErrorKind.PROTOCOL_ERROR, f"the proxy's reply exceeds {REPLY_BYTES_MAX} bytes"
            )
        if self.must_reconnect:
            return b""
        if self.done and self._received:
            raise ProxyError(ProxyErrorKind.PROTOCOL_ERROR, "unexpected data after the proxy's reply")
        return b"".join(replies)

    def _take(self) -> bytes | None:
        """Return the next part if it is complete."""
        if self._wanted == RECONNECT:
            return None
        if isinstance(self._wanted, int):
            end = self._wanted if len(self._received) >= self._wanted else -1
        else:
            at = self._received.find(self._wanted)
            end = at + len(self._wanted) if at >= 0 else -1
        if end < 0:
            return None
        part, self._received = self._received[:end], self._received[end:]
        return part


def authority(host: str, port: int) -> str:
    """Format `host`:`port` for a URI: IPv6 addresses in brackets, without zone (RFC 3986, 3.2.2)."""
    return f"{bracketed(host)}:{port}"


def _http(proxy: Proxy, host: str, port: int) -> Conversation:
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
            c for c in parse_challenges(reply.challenges) if c.scheme != "basic" or _may_be_basic(proxy)
        ]
        challenge = choose([c for c in offered if c.scheme == chosen] or offered)
        if not proxy.user or challenge is None or (challenge.token and not reply.stays):
            break  # a token belongs to the authentication of this connection
        if scheme is None:
            scheme, chosen = _begin(challenge, proxy, target), challenge.scheme
        credentials = scheme.answer(challenge)
        if credentials is None:
            break
        if not reply.stays:
            yield b"", RECONNECT
    raise ProxyError(ProxyErrorKind.REFUSED_AUTH, "the proxy requires other credentials (status 407)")


def _may_be_basic(proxy: Proxy) -> bool:
    """Return whether Basic may be tried: not if it was refused already."""
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
    stays: bool
    """Whether the connection stays open after it."""


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
    connection = " ".join(v.lower() for n, v in fields if n in ("connection", "proxy-connection"))
    chunked = any(n == "transfer-encoding" and "chunked" in v.lower() for n, v in fields)
    lengths = [v for n, v in fields if n == "content-length" and v.isascii() and v.isdigit()]
    stays = (is_http11 or "keep-alive" in connection) and "close" not in connection
    length = None if chunked else int(lengths[0][:9]) if lengths else 0
    challenges = [value for name, value in fields if name == "proxy-authenticate"]
    return _Reply(status, challenges, length, stays and (chunked or bool(lengths)))


def _skip_body(reply: _Reply) -> Generator[tuple[bytes, int | bytes], bytes, None]:
    """Read the body of a response after which the connection stays open."""
    if not reply.stays:
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


_VERSION: Final = 5
_NO_AUTH, _PASSWORD = 0, 2
_CONNECT: Final = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REFUSALS: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


def _socks5(proxy: Proxy, host: str, port: int) -> Conversation:
    offered = [_NO_AUTH, _PASSWORD] if proxy.user else [_NO_AUTH]
    version, method = yield bytes([_VERSION, len(offered), *offered]), 2
    if version != _VERSION or method not in (*offered, 0xFF):
        raise ProxyError(ProxyErrorKind.PROTOCOL_ERROR, "the proxy's reply is not SOCKS5")
    if method == 0xFF:
        raise ProxyError(
            ProxyErrorKind.REFUSED_AUTH, "the proxy accepts none of the offered authentication methods"
        )
    if method == _PASSWORD:
        _, status = yield b"\x01" + _counted(proxy.user) + _counted(proxy.password), 2
        if status != 0:
            raise ProxyError(ProxyErrorKind.REFUSED_AUTH, "the proxy rejected the user or password")
    request = bytes([_VERSION, _CONNECT, 0]) + _address(host) + port.to_bytes(2, "big")
    version, status, _, kind = yield request, 4
    if version != _VERSION:
        raise ProxyError(ProxyErrorKind.PROTOCOL_ERROR, "the proxy's reply is not SOCKS5")
    if status != 0:
        raise ProxyError(ProxyErrorKind.REFUSED, f"the proxy: {_REFUSALS.get(status, f'error {status}')}")
    yield b"", (yield from _address_bytes(kind)) + 2  # skip the proxy's own address and port


def _address_bytes(kind: int) -> Generator[tuple[bytes, int | bytes], bytes, int]:
    if kind == _NAME:
        return (yield b"", 1)[0]
    if kind not in (_IPV4, _IPV6):
        raise ProxyError(ProxyErrorKind.PROTOCOL_ERROR, f"unknown address type {kind} in the proxy's reply")
    return 4 if kind == _IPV4 else 16


def _address(host: str) -> bytes:
    try:
        address: IPv4Address | IPv6Address = ip_address(without_zone(host))
    except ValueError:
        return bytes([_NAME]) + _counted(host)
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


def _counted(word: str) -> bytes:
    data = word.encode()
    return bytes([len(data)]) + data
