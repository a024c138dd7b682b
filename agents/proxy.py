"""Talking a proxy into a connection: HTTP CONNECT (RFC 9110, 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).

Both are short conversations, written here as generators that do no I/O: each `yield` gives the bytes to send and
says what to wait for, either a number of bytes or the delimiter that ends a part, and gets that part. Names go to
the proxy as they are, so that it and not the box resolves them.

Nothing may follow the proxy's last word: in what comes after it, TLS, it is the client who speaks first.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Generator
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

REPLY_BYTES_MAX: Final = 8 * 1024
"""All that a proxy may say before the connection is through."""

Word: TypeAlias = Annotated[str, Meta(pattern=r"^[ -~]{0,255}\Z")]
"""Printable ASCII, and as long as SOCKS can say."""
Conversation: TypeAlias = Generator[tuple[bytes, int | bytes], bytes, None]


class Proxy(Struct, frozen=True, forbid_unknown_fields=True):
    """A site's proxy; with a `user` it wants a password (Basic, or that of RFC 1929)."""

    kind: Literal["http", "socks5"]
    host: Word
    port: Annotated[int, Meta(ge=1, le=65535)]
    user: Word = ""
    password: Word = ""


class ProxyErrorKind(StrEnum):
    """What the person who set the proxy up can do about it."""

    REFUSED_AUTH = "refused-auth"  # it wants a user and a password, or other ones
    REFUSED = "refused"  # it knows us, and does not connect us (policy, unreachable)
    GARBAGE = "garbage"  # it does not speak this protocol
    TIMEOUT = "timeout"  # it does not answer
    LOST = "lost"  # it hung up


class ProxyError(Exception):
    """The proxy does not connect us; callers branch on `kind` alone."""

    def __init__(self, kind: ProxyErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def converse(proxy: Proxy, host: str, port: int) -> Conversation:
    """The conversation that makes `proxy` connect to `host`:`port`. It raises ProxyError."""
    return (_http if proxy.kind == "http" else _socks5)(proxy, host, port)


class Handshake:
    """Drives a conversation with whatever pieces arrive. `to_send` opens it; it is over when `done`."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._received = b""
        self._bytes = 0
        self.done = False
        self.to_send, self._wanted = next(conversation)

    def receive(self, data: bytes) -> bytes:
        """What to send in reply to `data`. Errors: ProxyError REFUSED_AUTH, REFUSED, GARBAGE."""
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
            raise ProxyError(ProxyErrorKind.GARBAGE, f"the proxy said more than {REPLY_BYTES_MAX} bytes")
        if self.done and self._received:
            raise ProxyError(ProxyErrorKind.GARBAGE, "the proxy goes on talking after its last word")
        return b"".join(replies)

    def _take(self) -> bytes | None:
        """The next part, once it is whole."""
        if isinstance(self._wanted, int):
            end = self._wanted if len(self._received) >= self._wanted else -1
        else:
            at = self._received.find(self._wanted)
            end = at + len(self._wanted) if at >= 0 else -1
        if end < 0:
            return None
        part, self._received = self._received[:end], self._received[end:]
        return part


def _http(proxy: Proxy, host: str, port: int) -> Conversation:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if proxy.user:
        credentials = b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        head += f"Proxy-Authorization: Basic {credentials}\r\n"
    reply = yield f"{head}\r\n".encode(), b"\r\n\r\n"
    status_line = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2})( [^\r\n]*)?\r\n", reply)
    if status_line is None:
        raise ProxyError(ProxyErrorKind.GARBAGE, "the proxy does not answer in HTTP/1.1")
    status = int(status_line[1])
    if status == 407:
        raise ProxyError(ProxyErrorKind.REFUSED_AUTH, "the proxy wants other credentials (407)")
    if not 200 <= status < 300:
        raise ProxyError(ProxyErrorKind.REFUSED, f"the proxy answers {status}")


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
        raise ProxyError(ProxyErrorKind.GARBAGE, "the proxy does not answer in SOCKS5")
    if method == 0xFF:
        raise ProxyError(ProxyErrorKind.REFUSED_AUTH, "the proxy accepts none of our ways to log in")
    if method == _PASSWORD:
        _, status = yield b"\x01" + _counted(proxy.user) + _counted(proxy.password), 2
        if status != 0:
            raise ProxyError(ProxyErrorKind.REFUSED_AUTH, "the proxy wants another user or password")
    request = bytes([_VERSION, _CONNECT, 0]) + _address(host) + port.to_bytes(2, "big")
    version, status, _, kind = yield request, 4
    if version != _VERSION:
        raise ProxyError(ProxyErrorKind.GARBAGE, "the proxy does not answer in SOCKS5")
    if status != 0:
        raise ProxyError(ProxyErrorKind.REFUSED, f"the proxy: {_REFUSALS.get(status, f'error {status}')}")
    yield b"", (yield from _address_bytes(kind)) + 2  # the address it connects from is of no use to us


def _address_bytes(kind: int) -> Generator[tuple[bytes, int | bytes], bytes, int]:
    if kind == _NAME:
        return (yield b"", 1)[0]
    if kind not in (_IPV4, _IPV6):
        raise ProxyError(ProxyErrorKind.GARBAGE, f"the proxy gives an address of unknown type {kind}")
    return 4 if kind == _IPV4 else 16


def _address(host: str) -> bytes:
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return bytes([_NAME]) + _counted(host)
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


def _counted(word: str) -> bytes:
    data = word.encode()
    return bytes([len(data)]) + data
