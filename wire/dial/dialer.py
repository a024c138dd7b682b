"""From nothing to an HTTP connection under TLS: directly, or through the site's proxy."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

from settings.types import Endpoint, Proxy
from wire.dial.accounting import Traffic
from wire.dial.patience import Patience
from wire.dial.proxy import Handshake, ProxyError, ProxyErrorKind, converse
from wire.http.connection import ClientConnection, bracketed, without_zone
from wire.tls.peer import check_server

HTTPS_PORT: Final = 443
REACH_SECONDS_MAX: Final = 45.0
"""From asking for the address to the TCP connection. It does not grow: this is between kernels, however busy programs
are, and the name service's own time-out is shorter."""
HANDSHAKE_SECONDS_MAX: Final = 45.0
"""What the proxy's handshake and TLS's may usually take together, from the TCP connection on."""
DIAL_PATIENCE_MAX: Final = 10.0
"""So many times as long, at most, for handshakes with a proxy or far end that has shown to be slow."""
UNACKNOWLEDGED_MS_MAX: Final = 60_000
"""Data that the other end's kernel does not acknowledge for so long is on a dead line, and not at a slow program."""
PROXY_SECONDS_MAX: Final = 20.0
"""What a proxy may usually take to answer once it has accepted the connection."""


async def dial(
    endpoint: Endpoint,
    tls: ssl.SSLContext,
    *,
    reply_bytes_max: int,
    proxy: Proxy | None = None,
    traffic: Traffic | None = None,
    patience: Patience | None = None,
) -> ClientConnection:
    """Connect and shake hands. `patience` is with the handshakes, and learns from them.

    Raises:
        ProxyError: the proxy does not connect us.
        OSError: anything else, TimeoutError and ssl.SSLError among it.
    """
    # RFC 9110, 7.2: the default port is left out, which in a request for one alert is 2 % of it
    host = bracketed(endpoint.host)
    authority = host if endpoint.port == HTTPS_PORT else f"{host}:{endpoint.port}"
    connection = ClientConnection(authority, reply_bytes_max)
    way = _Way(endpoint, proxy, traffic or Traffic(), patience or Patience(1.0))
    try:
        async with asyncio.timeout(REACH_SECONDS_MAX) as limit:
            await way.dial(connection, tls, limit)
    except OSError:
        raise
    except ValueError as error:  # UnicodeError is one: from IDNA, or ssl about the name it is to verify
        raise OSError(f"{endpoint.host!r} or the proxy's name cannot be a host name: {error}") from error
    try:
        if connection.transport is not None:
            check_server(connection.transport.get_extra_info("ssl_object"))
    except ssl.SSLCertVerificationError:
        connection.abort()
        raise
    return connection


async def reach(endpoint: Endpoint, proxy: Proxy | None, protocol: asyncio.Protocol) -> asyncio.Transport:
    """Connect `protocol` to the far end without TLS, through the proxy if there is one.

    Raises OSError, ProxyError.
    """
    try:
        transport = await _Way(endpoint, proxy, Traffic(), Patience(1.0)).open()
    except ValueError as error:
        raise OSError(f"{endpoint.host!r} or the proxy's name cannot be a host name: {error}") from error
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return transport


def _end_dead_line(transport: asyncio.Transport) -> None:
    """Have the kernel end the connection when the other end's kernel no longer acknowledges what is sent."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux alone has it
    line = transport.get_extra_info("socket")
    if option is not None and line is not None and line.family != socket.AF_UNIX:
        line.setsockopt(socket.IPPROTO_TCP, option, UNACKNOWLEDGED_MS_MAX)


@dataclass(frozen=True, slots=True)
class _Way:
    """The way to the far end: TCP, the proxy if there is one, TLS."""

    endpoint: Endpoint
    proxy: Proxy | None
    traffic: Traffic
    patience: Patience

    async def dial(self, connection: ClientConnection, tls: ssl.SSLContext, limit: asyncio.Timeout) -> None:
        """Reach the far end or the proxy within `limit`, which is then set anew for the handshakes."""
        loop = asyncio.get_running_loop()
        reached_at, seconds = inf, HANDSHAKE_SECONDS_MAX * self.patience.factor

        def reached() -> None:
            nonlocal reached_at
            reached_at = min(reached_at, loop.time())
            limit.reschedule(reached_at + seconds)

        try:
            transport = await self.open(reached)
            # `limit` ends before the handshake's own time-out
            secured = await self._secure(transport, connection, tls, 2 * seconds)
        except asyncio.CancelledError:
            if loop.time() >= reached_at + seconds:
                self.patience.expired()
            raise
        self.patience.answered((loop.time() - reached_at) / HANDSHAKE_SECONDS_MAX)
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
            transport.abort()
            raise
        if secured is None:
            raise ConnectionResetError("the connection was lost during the TLS handshake")
        return secured

    async def open(self, reached: Callable[[], object] = lambda: None) -> asyncio.Transport:
        """Connect to the far end; `reached` is called when it, or the proxy, has accepted a connection."""
        loop, proxy, endpoint = asyncio.get_running_loop(), self.proxy, self.endpoint
        if proxy is None:
            transport, _ = await loop.create_connection(
                asyncio.Protocol, endpoint.address or endpoint.host, endpoint.port
            )
            _end_dead_line(transport)
            reached()
            return transport
        handshake = Handshake(converse(proxy, endpoint.host, endpoint.port))
        while True:
            transport, shaking = await loop.create_connection(
                lambda: _Shaking(handshake, self.traffic), proxy.host, proxy.port
            )
            _end_dead_line(transport)
            reached()
            await self._shake_hands(transport, shaking)
            if handshake.done:
                return transport
            transport.abort()
            handshake.reconnect()

    async def _shake_hands(self, transport: asyncio.Transport, shaking: _Shaking) -> None:
        try:
            async with asyncio.timeout(PROXY_SECONDS_MAX * self.patience.factor):
                await shaking.finished
        except TimeoutError:
            transport.abort()
            self.patience.expired()
            raise ProxyError(ProxyErrorKind.TIMEOUT, "the proxy does not answer") from None
        except BaseException:
            transport.abort()
            raise


class _Shaking(asyncio.Protocol):
    """A proxy handshake over a transport; `finished` when it is done, or needs another transport."""

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
            self.finished.set_exception(ProxyError(ProxyErrorKind.LOST, "the proxy hung up"))

    def _send(self, data: bytes) -> None:
        assert self._transport is not None
        if data:
            self._transport.write(data)
            self._traffic.proxy_bytes_sent += len(data)
