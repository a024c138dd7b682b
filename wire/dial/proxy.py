"""The handshake with a proxy, and its errors. It runs the conversation of the kind of proxy (`wire.dial.proxies`).

A conversation is a generator without I/O: each `yield` gives the bytes to send and how much to wait for (a number of
bytes, or a delimiter), and returns the part received. RECONNECT waits for a new connection to the proxy. Host names
are passed to the proxy unresolved, so that it and not the box resolves them.

No data may follow the proxy's final reply: in TLS, which comes next, the client speaks first.
"""

from __future__ import annotations

from collections.abc import Generator
from enum import StrEnum
from typing import Final, TypeAlias

REPLY_BYTES_MAX: Final = 64 * 1024
"""Maximum bytes from the proxy during the handshake."""

RECONNECT: Final = -1
"""A conversation waits for this when the proxy closes the connection but the next request may succeed."""
Conversation: TypeAlias = Generator[tuple[bytes, int | bytes], bytes, None]


class ProxyErrorKind(StrEnum):
    """Error kinds, by what the site's administrator can do about them."""

    REFUSED_AUTH = "refused-auth"  # the proxy requires a user and password, or refused them
    REFUSED = "refused"  # the proxy does not connect to this destination (policy, unreachable)
    PROTOCOL_ERROR = "garbage"  # the reply does not conform to the protocol; the value is in audit records
    TIMEOUT = "timeout"  # no reply in time
    LOST = "lost"  # the proxy closed the connection


class ProxyError(Exception):
    """The proxy did not establish the connection; callers branch on `kind` alone."""

    def __init__(self, kind: ProxyErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Handshake:
    """Runs a conversation on received data. Send `to_send` first; the handshake is complete when `done`.

    If `must_reconnect`, the proxy closes this connection: open another, call `reconnect`, and send `to_send` on it.
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
        """Process received data; return the bytes to send next.

        Raises: ProxyError REFUSED_AUTH, REFUSED, PROTOCOL_ERROR.
        """
        self._received += data
        self._bytes += len(data)
        outgoing = []
        while not self.done and (part := self._take()) is not None:
            try:
                to_send, self._wanted = self._conversation.send(part)
                outgoing.append(to_send)
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
        return b"".join(outgoing)

    def _take(self) -> bytes | None:
        """Remove and return the next part of the received data; None if it is incomplete."""
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
