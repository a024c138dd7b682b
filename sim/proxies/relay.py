"""The tunnel of a proxy: negotiation with the client, connection to the target, and relaying in both directions.

Faults of the proxy set the fields of `Behavior`, which all its tunnels use.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field

from sim.proxies.inspection import InspectingProxy

REQUEST_BYTES_MAX = 16 * 1024


@dataclass
class Behavior:
    """The current behavior of a proxy, which faults change, its open tunnels and its counters."""

    refuses: bool = False
    """Whether every request is refused: authentication fails with any password."""
    half_open: bool = False
    """Whether received data is discarded in both directions, while connections stay open."""
    idle_s_max: float | None = None
    """Tunnels that were idle for this many seconds are closed; None for no limit."""
    inspector: ssl.SSLContext | None = None
    """Terminate the clients' TLS with this context; None: relay it unchanged."""
    inspected_bytes: int = 0
    """Bytes of plaintext that clients have sent to the inspecting proxy; 0 if no client trusted it."""
    delay_s: float = 0.0
    """How long data is delayed in each direction, in seconds."""
    tunnels: dict[ProxyTunnel, None] = field(default_factory=dict)
    """The open tunnels, oldest first."""
    requests: int = 0
    refused: int = 0


class ProxyTunnel(asyncio.Protocol):
    """A client's connection to a proxy: a negotiation, implemented by subclasses, then a tunnel to the target."""

    def __init__(self, behavior: Behavior) -> None:
        self._behavior = behavior
        self._loop = asyncio.get_running_loop()
        self._client: asyncio.Transport
        self._target: asyncio.Transport | None = None
        self._received = bytearray()
        self._opening = False
        self._last_s = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self._delayed = (DelayQueue(behavior), DelayQueue(behavior))

    def negotiate(self, received: bytearray) -> None:
        """Process and remove complete messages from `received`.

        Call `answer` to send a reply, and finally `open` or `refuse`.
        """
        raise NotImplementedError

    def established(self) -> bytes:
        """Return the reply that says that the tunnel is open."""
        raise NotImplementedError

    def unreachable(self) -> bytes:
        """Return the reply that says that the target cannot be reached."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._client = transport
        self._behavior.tunnels[self] = None
        self._touch()
        self._watch_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        if self._target is not None:
            self._target.close()

    def data_received(self, data: bytes) -> None:
        if self._behavior.half_open:
            return
        self._touch()
        if self._target is not None:
            self._delayed[0].carry(self._target, data)
            return
        self._received += data
        if len(self._received) > REQUEST_BYTES_MAX:
            self._client.abort()
        elif not self._opening:
            self.negotiate(self._received)

    def answer(self, data: bytes) -> None:
        """Send a reply to the client."""
        if not self._behavior.half_open:
            self._client.write(data)

    def refuse(self, data: bytes) -> None:
        """Send the refusal `data`, and close the connection."""
        self._behavior.refused += 1
        self.answer(data)
        self._client.close()

    def open(self, host: str, port: int) -> None:
        """Connect to the target in a separate task."""
        self._opening = True
        self._behavior.requests += 1
        self._task = self._loop.create_task(self._open(host, port))

    async def _open(self, host: str, port: int) -> None:
        if self._behavior.inspector is not None:
            await self._inspect(self._behavior.inspector)
            return
        try:
            async with asyncio.timeout(30):
                target, _ = await self._loop.create_connection(lambda: _TargetProtocol(self), host, port)
        except (OSError, TimeoutError):
            self.refuse(self.unreachable())
            return
        if self._client.is_closing():
            target.close()
            return
        self._target = target
        self.answer(self.established())
        if self._received:
            self._delayed[0].carry(target, bytes(self._received))

    async def _inspect(self, tls: ssl.SSLContext) -> None:
        """Terminate the client's TLS."""
        inspector = InspectingProxy(self._count_inspected, self._forget)
        self.answer(self.established())
        try:
            transport = await self._loop.start_tls(self._client, inspector, tls, server_side=True)
        except OSError:
            transport = None
        if transport is None:
            self._forget()  # the client rejected the certificate
        else:
            self._client = inspector.transport = transport

    def _count_inspected(self, count: int) -> None:
        self._behavior.inspected_bytes += count

    def _forget(self) -> None:
        self._behavior.tunnels.pop(self, None)

    def target_data_received(self, data: bytes) -> None:
        """Relay bytes from the target."""
        if not self._behavior.half_open:
            self._touch()
            self._delayed[1].carry(self._client, data)

    def close(self) -> None:
        """Close the tunnel."""
        self._client.close()

    def target_lost(self) -> None:
        """Close the tunnel after the loss of the connection to the target."""
        self._client.close()

    def pause_writing(self) -> None:
        if self._target is not None:
            self._target.pause_reading()

    def resume_writing(self) -> None:
        if self._target is not None:
            self._target.resume_reading()

    def pause_client(self) -> None:
        """Stop reading from the client while the target's send buffer is full."""
        self._client.pause_reading()

    def resume_client(self) -> None:
        """Read from the client again."""
        self._client.resume_reading()

    def apply_behavior(self) -> None:
        """Apply a changed `Behavior` to this tunnel."""
        for queue in self._delayed:
            queue.release()
        self._watch_idle()

    def _touch(self) -> None:
        self._last_s = self._loop.time()

    def _watch_idle(self) -> None:
        """Close the tunnel if it was idle for `idle_s_max`; otherwise schedule the next check."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        limit = self._behavior.idle_s_max
        if limit is None or self._client.is_closing():
            return
        left = self._last_s + limit - self._loop.time()
        if left <= 0:
            self._client.close()
        else:
            self._idle = self._loop.call_later(left, self._watch_idle)


class DelayQueue:
    """The data that a proxy delays in one direction of a tunnel; changes of the delay keep its order."""

    def __init__(self, behavior: Behavior) -> None:
        self._behavior = behavior
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Transport, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def carry(self, target: asyncio.Transport, data: bytes) -> None:
        """Send `data` to `target`, after the current delay."""
        if self._behavior.delay_s or self._waiting:
            self._waiting.append((self._loop.time(), target, data))
            if self._timer is None:
                self.release()
        else:
            target.write(data)

    def release(self) -> None:
        """Send the data whose delay has passed, and schedule the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            due = self._waiting[0][0] + self._behavior.delay_s
            if due > self._loop.time():
                self._timer = self._loop.call_at(due, self.release)
                return
            _, target, data = self._waiting.popleft()
            target.write(data)


class _TargetProtocol(asyncio.Protocol):
    """The tunnel's connection to its target."""

    def __init__(self, tunnel: ProxyTunnel) -> None:
        self._tunnel = tunnel

    def data_received(self, data: bytes) -> None:
        self._tunnel.target_data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.target_lost()

    def pause_writing(self) -> None:
        self._tunnel.pause_client()

    def resume_writing(self) -> None:
        self._tunnel.resume_client()
