"""Accepts the tunnels of all boxes on one TCP port, and forwards each to the server of its session.

The first packet of a client ends with its wrapped tls-crypt-v2 key, which the data center has made and given to one
box for one session. A connection that does not begin with the key of an expected session is closed without a response
and does not reach OpenVPN. A key is accepted once: after the end of the session, a box needs a new grant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from wire.openvpn.splice import Side

FIRST_BYTES_MAX: Final = 1500
FIRST_SECONDS_MAX: Final = 30.0
WAITING_MAX: Final = 64
"""Maximum number of connections that have not sent their first packet; a further one closes the oldest."""
_LENGTH_BYTES: Final = 2
_CLIENT_RESET: Final = 10 << 3
"""P_CONTROL_HARD_RESET_CLIENT_V3 with key 0: the first packet of a client with a tls-crypt-v2 key."""

Connect = Callable[[asyncio.Protocol], Awaitable[object]]
"""Connects a protocol to the server of a session. Raises: OSError."""


class TunnelListener:
    """Forwards connections to the servers of their sessions; `accept` is a protocol factory for `create_server`."""

    def __init__(self) -> None:
        self._expected: dict[bytes, Connect] = {}
        self._waiting: dict[_Arrival, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = 0
        """Number of connections without the key of an expected session."""

    def expect(self, wrapped_key: bytes, connect: Connect) -> None:
        """Forward the next connection with this key."""
        self._expected[wrapped_key] = connect

    def forget(self, wrapped_key: bytes) -> None:
        """Refuse connections with this key."""
        self._expected.pop(wrapped_key, None)

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        arrival = _Arrival(self)
        while len(self._waiting) >= WAITING_MAX:
            self.refuse(next(iter(self._waiting)))
        self._waiting[arrival] = None
        return arrival

    def refuse(self, arrival: _Arrival) -> None:
        """Close a connection without a response."""
        self.stop_waiting(arrival)
        self.refused += 1
        arrival.close()

    def stop_waiting(self, arrival: _Arrival) -> None:
        """Record that a connection no longer waits for its first packet."""
        self._waiting.pop(arrival, None)

    def dispatch(self, arrival: _Arrival, packet: bytes) -> None:
        """Forward or refuse a connection according to its first packet."""
        key = next((key for key in self._expected if packet.endswith(key)), None)
        if key is None or packet[0] != _CLIENT_RESET:
            self.refuse(arrival)
            return
        self.stop_waiting(arrival)
        task = asyncio.get_running_loop().create_task(self._forward(arrival, self._expected.pop(key)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, arrival: _Arrival, connect: Connect) -> None:
        server = Side()
        try:
            await connect(server)
        except OSError:
            arrival.close()
            return
        arrival.join(server)


class _Arrival(Side):
    """A connection whose first packet is awaited."""

    def __init__(self, listener: TunnelListener) -> None:
        super().__init__(self._closed)
        self._listener, self._first, self._is_known = listener, b"", False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._timer = asyncio.get_running_loop().call_later(FIRST_SECONDS_MAX, self._listener.refuse, self)
        transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_known:
            return
        self._first += data
        length = int.from_bytes(self._first[:_LENGTH_BYTES], "big")
        end = _LENGTH_BYTES + length
        if len(self._first) >= _LENGTH_BYTES and not 0 < length <= FIRST_BYTES_MAX:
            self._decided()
            self._listener.refuse(self)
        elif len(self._first) >= end > _LENGTH_BYTES:
            packet, self._first = self._first[_LENGTH_BYTES:end], b""
            self._decided()
            self._listener.dispatch(self, packet)

    def _decided(self) -> None:
        self._is_known = True
        if self._timer is not None:
            self._timer.cancel()

    def _closed(self) -> None:
        self._decided()
        self._listener.stop_waiting(self)
