"""TLS inspection: the proxy is the server of its clients, under a certificate of its own CA."""

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
    """A server's context that asks clients for no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


class InspectingProxy(asyncio.Protocol):
    """Inside a client's TLS. It can do nothing for a client that trusts it: the data center wants a certificate."""

    def __init__(self, heard: Callable[[int], object], ended: Callable[[], object]) -> None:
        """`heard` is called with the number of bytes that the client says, `ended` at the connection's end."""
        self._heard, self._ended = heard, ended
        self.transport: asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self._heard(len(data))
        self.transport.write(ANSWER)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()
