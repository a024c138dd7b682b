"""What every proxy does once it has understood whom to connect: carry bytes both ways.

The ways in which a proxy misbehaves are states of `Behavior`, which the proxy's connections look at.
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
    """How the proxy treats its clients at present."""

    refuses: bool = False
    """Authentication fails, whatever the password."""
    half_open: bool = False
    """Takes whatever is sent and says nothing more, in either direction."""
    idle_s_max: float | None = None
    """Ends tunnels through which nothing went for so long."""
    inspector: ssl.SSLContext | None = None
    """Terminates TLS with this context instead of passing it through."""
    inspected_bytes: int = 0
    """What clients have said to an inspecting proxy under TLS: as much as they trusted it with."""
    delay_s: float = 0.0
    """Holds everything back for so long."""
    tunnels: dict[ProxyTunnel, None] = field(default_factory=dict)
    """Those that are open, oldest first."""
    requests: int = 0
    refused: int = 0


class ProxyTunnel(asyncio.Protocol):
    """A client's connection: first a negotiation, which subclasses speak, then a tunnel to the target."""

    def __init__(self, behavior: Behavior) -> None:
        self._behavior = behavior
        self._loop = asyncio.get_running_loop()
        self._client: asyncio.Transport
        self._far: asyncio.Transport | None = None
        self._received = bytearray()
        self._opening = False
        self._last_s = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self._held = (Held(behavior), Held(behavior))

    def negotiate(self, received: bytearray) -> None:
        """Take what is complete from `received`; answer with `answer`, end with `open` or `refuse`."""
        raise NotImplementedError

    def established(self) -> bytes:
        """What tells the client that the tunnel is open."""
        raise NotImplementedError

    def unreachable(self) -> bytes:
        """What tells the client that the target cannot be reached."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._client = transport
        self._behavior.tunnels[self] = None
        self._touch()
        self._watch_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        if self._far is not None:
            self._far.close()

    def data_received(self, data: bytes) -> None:
        if self._behavior.half_open:
            return
        self._touch()
        if self._far is not None:
            self._held[0].carry(self._far, data)
            return
        self._received += data
        if len(self._received) > REQUEST_BYTES_MAX:
            self._client.abort()
        elif not self._opening:
            self.negotiate(self._received)

    def answer(self, data: bytes) -> None:
        """Say something to the client."""
        if not self._behavior.half_open:
            self._client.write(data)

    def refuse(self, data: bytes) -> None:
        """Say why not, and end the connection."""
        self._behavior.refused += 1
        self.answer(data)
        self._client.close()

    def open(self, host: str, port: int) -> None:
        """Connect to the target."""
        self._opening = True
        self._behavior.requests += 1
        self._task = self._loop.create_task(self._open(host, port))

    async def _open(self, host: str, port: int) -> None:
        if self._behavior.inspector is not None:
            await self._inspect(self._behavior.inspector)
            return
        try:
            async with asyncio.timeout(30):
                far, _ = await self._loop.create_connection(lambda: _FarEnd(self), host, port)
        except (OSError, TimeoutError):
            self.refuse(self.unreachable())
            return
        if self._client.is_closing():
            far.close()
            return
        self._far = far
        self.answer(self.established())
        if self._received:
            self._held[0].carry(far, bytes(self._received))

    async def _inspect(self, tls: ssl.SSLContext) -> None:
        """Be the server of the client's TLS."""
        inspector = InspectingProxy(self._overhear, self._forget)
        self.answer(self.established())
        try:
            transport = await self._loop.start_tls(self._client, inspector, tls, server_side=True)
        except OSError:
            transport = None
        if transport is None:
            self._forget()  # the client does not trust it
        else:
            self._client = inspector.transport = transport

    def _overhear(self, count: int) -> None:
        self._behavior.inspected_bytes += count

    def _forget(self) -> None:
        self._behavior.tunnels.pop(self, None)

    def from_far(self, data: bytes) -> None:
        """Bytes from the target."""
        if not self._behavior.half_open:
            self._touch()
            self._held[1].carry(self._client, data)

    def close(self) -> None:
        """End the tunnel."""
        self._client.close()

    def far_lost(self) -> None:
        """The target has ended the connection."""
        self._client.close()

    def pause_writing(self) -> None:
        if self._far is not None:
            self._far.pause_reading()

    def resume_writing(self) -> None:
        if self._far is not None:
            self._far.resume_reading()

    def pause_client(self) -> None:
        """The target takes no more for now."""
        self._client.pause_reading()

    def resume_client(self) -> None:
        """The target takes more again."""
        self._client.resume_reading()

    def behave(self) -> None:
        """The behavior has changed."""
        for held in self._held:
            held.release()
        self._watch_idle()

    def _touch(self) -> None:
        self._last_s = self._loop.time()

    def _watch_idle(self) -> None:
        """End the tunnel when it has been idle for long enough, if the behavior is such."""
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


class Held:
    """What a proxy holds back in one direction of a tunnel; its order is kept whatever the delay becomes."""

    def __init__(self, behavior: Behavior) -> None:
        self._behavior = behavior
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Transport, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def carry(self, target: asyncio.Transport, data: bytes) -> None:
        """Pass `data` on, at once or when its time has come."""
        if self._behavior.delay_s or self._waiting:
            self._waiting.append((self._loop.time(), target, data))
            if self._timer is None:
                self.release()
        else:
            target.write(data)

    def release(self) -> None:
        """Pass on what has been held long enough, and come back for the rest."""
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


class _FarEnd(asyncio.Protocol):
    """The tunnel's connection to its target."""

    def __init__(self, tunnel: ProxyTunnel) -> None:
        self._tunnel = tunnel

    def data_received(self, data: bytes) -> None:
        self._tunnel.from_far(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.far_lost()

    def pause_writing(self) -> None:
        self._tunnel.pause_client()

    def resume_writing(self) -> None:
        self._tunnel.resume_client()
