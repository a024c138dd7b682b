"""Establishes HTTP connections over TLS, direct or through the site's proxy."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

from settings.types import Endpoint, Proxy
from wire.dial.adaptive_timeout import AdaptiveTimeout
from wire.dial.proxies import proxy_conversation
from wire.dial.proxy import Handshake, ProxyError, ProxyErrorKind
from wire.dial.traffic import Traffic
from wire.http.connection import ClientConnection, bracketed, without_zone
from wire.process.transports import abort
from wire.tls.peer import check_server

HTTPS_PORT: Final = 443
REACH_SECONDS_MAX: Final = 45.0
"""Timeout from name resolution to the TCP connection. It does not adapt: only kernels are involved, which respond
however busy programs are, and the resolver's own timeout is shorter."""
HANDSHAKE_SECONDS_MAX: Final = 45.0
"""Usual timeout of the proxy and TLS handshakes together, from the TCP connection on."""
DIAL_TIMEOUT_FACTOR_MAX: Final = 10.0
"""Maximum factor by which the handshake timeout grows for a slow proxy or server."""
UNACKNOWLEDGED_MS_MAX: Final = 60_000
"""TCP_USER_TIMEOUT: data unacknowledged for this long means a dead path, not a slow program."""
PROXY_SECONDS_MAX: Final = 20.0
"""Usual timeout of a proxy's reply once it has accepted the connection."""


async def dial(
    endpoint: Endpoint,
    tls: ssl.SSLContext,
    *,
    reply_bytes_max: int,
    proxy: Proxy | None = None,
    traffic: Traffic | None = None,
    adaptive_timeout: AdaptiveTimeout | None = None,
) -> ClientConnection:
    """Connect and complete the proxy and TLS handshakes, whose timeout `adaptive_timeout` adapts.

    Raises:
        ProxyError: the proxy did not connect to the server.
        OSError: any other failure, including TimeoutError and ssl.SSLError.
    """
    # RFC 9110, 7.2: the default port is omitted, which saves 2 % of a request with one alert
    host = bracketed(endpoint.host)
    authority = host if endpoint.port == HTTPS_PORT else f"{host}:{endpoint.port}"
    connection = ClientConnection(authority, reply_bytes_max)
    route = _Route(endpoint, proxy, traffic or Traffic(), adaptive_timeout or AdaptiveTimeout(1.0))
    try:
        async with asyncio.timeout(REACH_SECONDS_MAX) as limit:
            await route.dial(connection, tls, limit)
    except OSError:
        raise
    except ValueError as error:  # includes UnicodeError: from IDNA, or from ssl for the name to verify
        raise OSError(f"{endpoint.host!r} or the proxy's name is not a valid host name: {error}") from error
    try:
        if connection.transport is not None:
            check_server(connection.transport.get_extra_info("ssl_object"))
    except ssl.SSLCertVerificationError:
        connection.abort()
        raise
    return connection


async def reach(endpoint: Endpoint, proxy: Proxy | None, protocol: asyncio.Protocol) -> asyncio.Transport:
    """Connect `protocol` to the server without TLS, through the proxy if there is one.

    Raises: OSError, ProxyError.
    """
    try:
        transport = await _Route(endpoint, proxy, Traffic(), AdaptiveTimeout(1.0)).open()
    except ValueError as error:
        raise OSError(f"{endpoint.host!r} or the proxy's name is not a valid host name: {error}") from error
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return transport


def _set_user_timeout(transport: asyncio.Transport) -> None:
    """Set TCP_USER_TIMEOUT: the kernel ends the connection if sent data remains unacknowledged."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
    sock = transport.get_extra_info("socket")
    if option is not None and sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, option, UNACKNOWLEDGED_MS_MAX)


@dataclass(frozen=True, slots=True)
class _Route:
    """The route to a server: TCP, the proxy if there is one, TLS."""

    endpoint: Endpoint
    proxy: Proxy | None
    traffic: Traffic
    adaptive_timeout: AdaptiveTimeout

    async def dial(self, connection: ClientConnection, tls: ssl.SSLContext, limit: asyncio.Timeout) -> None:
        """Reach the server or the proxy within `limit`, then reschedule `limit` for the handshakes."""
        loop = asyncio.get_running_loop()
        reached_at, seconds = inf, HANDSHAKE_SECONDS_MAX * self.adaptive_timeout.factor

        def reached() -> None:
            nonlocal reached_at
            reached_at = min(reached_at, loop.time())
            limit.reschedule(reached_at + seconds)

        try:
            transport = await self.open(reached)
            # `limit` expires before the handshake's own timeout
            secured = await self._secure(transport, connection, tls, 2 * seconds)
        except asyncio.CancelledError:
            if loop.time() >= reached_at + seconds:
                self.adaptive_timeout.expired()
            raise
        self.adaptive_timeout.answered((loop.time() - reached_at) / HANDSHAKE_SECONDS_MAX)
        connection.connection_made(secured)

    async def _secure(
        self, transport: asyncio.Transport, connection: ClientConnection, tls: ssl.SSLContext, seconds: float
    ) -> asyncio.Transport:
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                connection,
                tls,
                server_hostname=without_zone(self.endpoint.host),
                ssl_handshake_timeout=seconds,
            )
        except asyncio.CancelledError:
            abort(transport)
            raise
        if secured is None:
            raise ConnectionResetError("the connection was lost during the TLS handshake")
        return secured

    async def open(self, reached: Callable[[], object] = lambda: None) -> asyncio.Transport:
        """Connect to the server; `reached` is called when it, or the proxy, has accepted a TCP connection."""
        loop, proxy, endpoint = asyncio.get_running_loop(), self.proxy, self.endpoint
        if proxy is None:
            transport, _ = await loop.create_connection(
                asyncio.Protocol, endpoint.address or endpoint.host, endpoint.port
            )
            _set_user_timeout(transport)
            reached()
            return transport
        handshake = Handshake(proxy_conversation(proxy, endpoint.host, endpoint.port))
        while True:
            transport, proxy_handshake = await loop.create_connection(
                lambda: _ProxyHandshake(handshake, self.traffic), proxy.host, proxy.port
            )
            _set_user_timeout(transport)
            reached()
            await self._complete_proxy_handshake(transport, proxy_handshake)
            if handshake.done:
                return transport
            abort(transport)
            handshake.reconnect()

    async def _complete_proxy_handshake(
        self, transport: asyncio.Transport, proxy_handshake: _ProxyHandshake
    ) -> None:
        try:
            async with asyncio.timeout(PROXY_SECONDS_MAX * self.adaptive_timeout.factor):
                await proxy_handshake.finished
        except TimeoutError:
            abort(transport)
            self.adaptive_timeout.expired()
            raise ProxyError(ProxyErrorKind.TIMEOUT, "the proxy did not reply in time") from None
        except BaseException:
            abort(transport)
            raise


class _ProxyHandshake(asyncio.Protocol):
    """Runs a proxy handshake on a transport; `finished` is set when it is done or needs a new connection."""

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
        if self._handshake.done or self._handshake.must_reconnect:
            self.finished.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(ProxyError(ProxyErrorKind.LOST, "the proxy closed the connection"))

    def _send(self, data: bytes) -> None:
        assert self._transport is not None
        if data:
            self._transport.write(data)
            self._traffic.proxy_bytes_sent += len(data)
