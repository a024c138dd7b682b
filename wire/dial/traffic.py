"""Counters of the uplink's traffic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Totals since the program's start. Bytes are counted at the HTTP level, without TLS and lower layers."""

    connections: int = 0
    resumed: int = 0
    """Connections that resumed a TLS session."""
    batches: int = 0
    records: int = 0
    body_bytes_sent: int = 0
    head_bytes_sent: int = 0
    body_bytes_received: int = 0
    head_bytes_received: int = 0
    proxy_bytes_sent: int = 0
    proxy_bytes_received: int = 0
    cipher: str = ""
    """The cipher suite of the most recent connection."""
