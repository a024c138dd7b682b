"""Two faults of asyncio's selector transports (CPython gh-156512), worked around in one place.

A transport that is closed while it has unsent data loses its connection as soon as that data has left, but records
this nowhere. `abort` then fails; and when the last write fails, the connection is lost a second time.
"""

from __future__ import annotations

import asyncio
from typing import Any


def abort(transport: asyncio.Transport) -> None:
    """Close a transport immediately; do nothing if its connection is lost already."""
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
