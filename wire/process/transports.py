"""Detection of dead peers, and workarounds for two faults of asyncio's selector transports (CPython gh-156512).

A transport that is closed while it has unsent data loses its connection once that data has been sent, but does not
record this. `abort` then fails; and when the last write fails, the connection is lost a second time.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

PROBE_IDLE_SECONDS: Final = 30
PROBE_INTERVAL_SECONDS: Final = 10
PROBES: Final = 3
DEAD_PEER_SECONDS_MAX: Final = PROBE_IDLE_SECONDS + PROBE_INTERVAL_SECONDS * PROBES
"""Maximum time until the kernel ends a connection whose peer no longer responds."""
_OPTIONS: Final = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", PROBE_IDLE_SECONDS),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", PROBE_INTERVAL_SECONDS),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", PROBES),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", DEAD_PEER_SECONDS_MAX * 1000),
)


def probe_peer(transport: asyncio.BaseTransport) -> None:
    """Let the kernel end the connection if its peer is dead; a live peer may be silent for any length of time.

    Keep-alive probes (RFC 9293, section 3.8.4) detect it while nothing is sent, TCP_USER_TIMEOUT (RFC 5482) while
    sent data is not acknowledged. Programs at the other end do not see the probes.
    """
    connection = transport.get_extra_info("socket")  # None in the virtual world
    for level, name, value in _OPTIONS if connection is not None else ():
        if (option := getattr(socket, name, None)) is not None:  # some exist only on Linux
            connection.setsockopt(level, option, value)


def abort(transport: asyncio.WriteTransport) -> None:
    """Close a transport immediately; do nothing if its connection is already lost."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() >= 0:
        transport.abort()


def is_second_loss(context: dict[str, Any]) -> bool:
    """Return whether an exception handler was called only because a connection was lost twice: nothing is wrong."""
    error = context.get("exception")
    return (
        isinstance(error, AttributeError)
        and (error.obj, error.name) == (None, "close")
        and "_call_connection_lost" in str(context.get("message"))
    )
