"""Fetches the certificate that a server presents, without trusting it, to explain a failed verification.

OpenSSL does not return the certificate after a failed verification, so this opens a separate connection through the
same proxy and with the same server name. It verifies nothing, and therefore sends neither a client certificate nor a
request. Received data is untrusted; its amount is bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

from settings.types import Endpoint, Proxy
from wire.dial.dialer import reach
from wire.http.connection import without_zone
from wire.process.transports import abort
from wire.tls.context import unverified_client_context

PROBE_SECONDS_MAX: Final = 45.0
PROBE_BYTES_MAX: Final = 64 * 1024
"""Maximum bytes read; a long chain of certificates has 10 KB."""
BEGINNING_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The received data: its first bytes, and the server's certificate (DER; empty if none was received)."""

    beginning: bytes
    certificate: bytes


async def probe(endpoint: Endpoint, proxy: Proxy | None) -> ProbeResult:
    """Start a TLS handshake with the server that answers at `endpoint`. Raises: OSError, ProxyError."""
    protocol = _Probe(unverified_client_context(), without_zone(endpoint.host))
    async with asyncio.timeout(PROBE_SECONDS_MAX):
        transport = await reach(endpoint, proxy, protocol)
        try:
            await protocol.finished
        finally:
            abort(transport)
    return ProbeResult(protocol.beginning, protocol.certificate)


class _Probe(asyncio.Protocol):
    """A TLS handshake in memory, so that a reply in plain text can be recorded too."""

    def __init__(self, tls: ssl.SSLContext, name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._connection = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._transport: asyncio.Transport | None = None
        self._bytes = 0
        self.beginning = self.certificate = b""
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._continue_handshake()

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        self.beginning += data[: BEGINNING_BYTES - len(self.beginning)]
        self._incoming.write(data)
        if not self.finished.done():
            self._continue_handshake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _continue_handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except ssl.SSLWantReadError:
            assert self._transport is not None
            self._transport.write(self._outgoing.read())
            if self._bytes > PROBE_BYTES_MAX:
                self._finish()
        except ssl.SSLError:
            self._finish()
        else:
            self.certificate = self._connection.getpeercert(binary_form=True) or b""
            self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
