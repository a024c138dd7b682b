"""Detects that the line of a tunnel is dead, as OpenVPN's `keepalive` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wire.openvpn.options import PING_LOST_SECONDS, PING_SECONDS


class Keepalive:
    """Calls `ping` PING_SECONDS after the last packet sent, and `lost` PING_LOST_SECONDS after the last received."""

    def __init__(self, ping: Callable[[], object], lost: Callable[[], object]) -> None:
        self._ping, self._lost = ping, lost
        loop = asyncio.get_running_loop()
        self._ping_timer = loop.call_later(PING_SECONDS, ping)
        self._lost_timer = loop.call_later(PING_LOST_SECONDS, lost)

    def sent(self) -> None:
        """Record that a packet was sent."""
        self._ping_timer.cancel()
        self._ping_timer = asyncio.get_running_loop().call_later(PING_SECONDS, self._ping)

    def received(self) -> None:
        """Record that a packet was received."""
        self._lost_timer.cancel()
        self._lost_timer = asyncio.get_running_loop().call_later(PING_LOST_SECONDS, self._lost)

    def stop(self) -> None:
        """Stop the timers, because the tunnel has ended."""
        self._ping_timer.cancel()
        self._lost_timer.cancel()
