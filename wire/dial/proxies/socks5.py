"""The client's side of SOCKS5 (RFC 1928), with a user and password if the proxy requires them (RFC 1929)."""

from __future__ import annotations

from collections.abc import Generator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from settings.types import Proxy
from wire.dial.proxy import Conversation, ProxyError, ProxyErrorKind
from wire.http.connection import without_zone

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


def conversation(proxy: Proxy, host: str, port: int) -> Conversation:
    """Request a connection to `host`:`port`; authenticate if the proxy requires it."""
    offered = [_NO_AUTH, _PASSWORD] if proxy.user else [_NO_AUTH]
    version, method = yield bytes([_VERSION, len(offered), *offered]), 2
    if version != _VERSION or method not in (*offered, 0xFF):
        raise ProxyError(ProxyErrorKind.PROTOCOL_ERROR, "the proxy's reply is not SOCKS5")
    if method == 0xFF:
        raise ProxyError(
            ProxyErrorKind.REFUSED_AUTH, "the proxy accepts none of the offered authentication methods"
        )
    if method == _PASSWORD:
        _, status = yield b"\x01" + _length_prefixed(proxy.user) + _length_prefixed(proxy.password), 2
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
        return bytes([_NAME]) + _length_prefixed(host)
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


def _length_prefixed(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data
