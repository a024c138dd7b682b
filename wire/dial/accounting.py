"""What the uplink cost, counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Totals since the start of the program. Bytes are those of HTTP, before TLS and what is beneath it."""

    connections: int = 0
    resumed: int = 0
    """Connections that resumed an earlier TLS session."""
    batches: int = 0
    records: int = 0
    body_bytes_sent: int = 0
    head_bytes_sent: int = 0
    body_bytes_received: int = 0
    head_bytes_received: int = 0
    proxy_bytes_sent: int = 0
    proxy_bytes_received: int = 0
    cipher: str = ""
    """The suite that the newest connection negotiated."""
