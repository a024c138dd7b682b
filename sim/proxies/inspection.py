"""TLS inspection: the proxy terminates its clients' TLS with a certificate from another CA."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from wire.tls.context import Identity

ANSWER: Final = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


def inspecting_context(identity: Identity) -> ssl.SSLContext:
    """Return a TLS server context with the identity `identity`, which requests no client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


class InspectingProxy(asyncio.Protocol):
    """The protocol inside a client's TLS connection to an inspecting proxy: answers every request with 502.

    The proxy cannot forward requests, because it has no client certificate for the data center.
    """

    def __init__(self, on_data: Callable[[int], object], on_end: Callable[[], object]) -> None:
        """`on_data` is called with the number of bytes received, `on_end` at the end of the connection."""
        self._on_data, self._on_end = on_data, on_end
        self.transport: asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self._on_data(len(data))
        self.transport.write(ANSWER)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()
