"""From nothing to an HTTP connection under TLS: directly, or through the site's proxy."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

from agents.accounting import Traffic
from agents.proxy import Handshake, Proxy, ProxyError, ProxyErrorKind, converse
from wire.http import ClientConnection
from wire.peer import check_server

HTTPS_PORT: Final = 443
DIAL_SECONDS_MAX: Final = 45.0
"""From the first packet to the end of the TLS handshake."""
PROXY_SECONDS_MAX: Final = 20.0
"""What a proxy may take to answer once it has accepted the connection."""


@dataclass(frozen=True, slots=True)
class FarEnd:
    """Whom to connect to: `host` is what its certificate says; `address`, if given, saves asking the DNS."""

    host: str
    port: int
    address: str = ""


async def dial(
    far_end: FarEnd,
    tls: ssl.SSLContext,
    *,
    reply_bytes_max: int,
    proxy: Proxy | None = None,
    traffic: Traffic | None = None,
) -> ClientConnection:
    """Connect and shake hands. Errors: ProxyError; OSError, which TimeoutError and ssl.SSLError are."""
    # RFC 9110, 7.2: the default port is left out, which in a request for one alert is 2 % of it
    authority = far_end.host if far_end.port == HTTPS_PORT else f"{far_end.host}:{far_end.port}"
    connection = ClientConnection(authority, reply_bytes_max)
    async with asyncio.timeout(DIAL_SECONDS_MAX):
        if proxy is None:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                far_end.address or far_end.host,
                far_end.port,
                ssl=tls,
                server_hostname=far_end.host,
            )
        else:
            await _dial_through(proxy, far_end, tls, connection, traffic or Traffic())
    try:
        if connection.transport is not None:
            check_server(connection.transport.get_extra_info("ssl_object"))
    except ssl.SSLCertVerificationError:
        connection.abort()
        raise
    return connection


async def _dial_through(
    proxy: Proxy, far_end: FarEnd, tls: ssl.SSLContext, connection: ClientConnection, traffic: Traffic
) -> None:
    loop = asyncio.get_running_loop()
    handshake = Handshake(converse(proxy, far_end.host, far_end.port))
    transport, shaking = await loop.create_connection(
        lambda: _Shaking(handshake, traffic), proxy.host, proxy.port
    )
    try:
        async with asyncio.timeout(PROXY_SECONDS_MAX):
            await shaking.finished
    except TimeoutError:
        transport.abort()
        raise ProxyError(ProxyErrorKind.TIMEOUT, "the proxy does not answer") from None
    except BaseException:
        transport.abort()
        raise
    secured = await loop.start_tls(transport, connection, tls, server_hostname=far_end.host)
    if secured is None:
        raise ConnectionResetError("the connection was lost during the TLS handshake")
    connection.connection_made(secured)


class _Shaking(asyncio.Protocol):
    """A proxy handshake over a transport."""

    def __init__(self, handshake: Handshake, traffic: Traffic) -> None:
        self._handshake = handshake
        self._traffic = traffic
        self._transport: asyncio.Transport | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send(self._handshake.to_send)

    def data_received(self, data: bytes) -> None:
        self._traffic.proxy_bytes_received += len(data)
        if self.finished.done():
            return
        try:
            self._send(self._handshake.receive(data))
        except ProxyError as error:
            self.finished.set_exception(error)
            return
        if self._handshake.done:
            self.finished.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(ProxyError(ProxyErrorKind.LOST, "the proxy hung up"))

    def _send(self, data: bytes) -> None:
        assert self._transport is not None
        if data:
            self._transport.write(data)
            self._traffic.proxy_bytes_sent += len(data)
