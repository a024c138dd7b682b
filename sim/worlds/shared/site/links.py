"""Qualities of the links that are never the bottleneck of a lab; the lab file describes the uplink."""

from __future__ import annotations

from typing import Final

from sim.net.link import LinkQuality

LAN: Final = LinkQuality(rate_bits=100_000_000, delay_ns=100_000)
"""Between an instrument and the box, and between the router and the proxy: 100 Mbit/s, 0.1 ms."""
BACKBONE: Final = LinkQuality(rate_bits=1_000_000_000, delay_ns=5_000_000)
"""Between the site and the data center: 1 Gbit/s, 5 ms."""
