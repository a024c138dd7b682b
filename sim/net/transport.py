"""asyncio transports and servers over simulated TCP connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from sim.engine.loop import VirtualTimeLoop
from sim.net.tcp import TcpEndpoint
from sim.net.tls import TlsProtocol

WRITE_HIGH_BYTES: Final = 64 * 1024
WRITE_LOW_BYTES: Final = 16 * 1024
NOT_SENT_BYTES: Final = 4096
"""TCP_NOTSENT_LOWAT of connections without a buffer."""


class SimTransport(asyncio.Transport):
    """A connected (or connecting) stream between two simulated hosts."""

    def __init__(
        self,
        loop: VirtualTimeLoop,
        protocol: asyncio.BaseProtocol,
        peer: tuple[str, int],
        local: tuple[str, int],
    ) -> None:
        super().__init__({"peername": peer, "sockname": local})
        self._loop = loop
        self._endpoint: TcpEndpoint
        self._context: Context
        self._detach: Callable[[], object]
        self.waiter: tuple[asyncio.Future[None], bool] | None = None
        self._connected = self._closing = self._lost = False
        self._paused_protocol = False
        self._high_bytes, self._low_bytes = WRITE_HIGH_BYTES, WRITE_LOW_BYTES
        self.set_protocol(protocol)

    def attach(self, endpoint: TcpEndpoint, context: Context, detach: Callable[[], object]) -> None:
        """Use `endpoint`; call the protocol in `context`; call `detach` when the connection has ended."""
        self._endpoint, self._context, self._detach = endpoint, context, detach

    def app_transport(self) -> asyncio.BaseTransport:
        """Return the transport for the program: the TLS layer's if there is one, otherwise this one."""
        if isinstance(self._protocol, TlsProtocol):
            return self._protocol._app_transport
        return self

    # -- callbacks of the endpoint

    def on_connected(self) -> None:
        self._connected = True
        self._context.run(self._protocol.connection_made, self)
        if self.waiter is not None and self.waiter[1]:
            self._resolve_waiter(None)

    def on_data(self, data: bytes) -> None:
        if not self._lost:
            self._context.run(self._take, data)

    def on_eof(self) -> None:
        if self._lost:
            return
        protocol = self._protocol
        assert isinstance(protocol, (asyncio.Protocol, asyncio.BufferedProtocol))
        if not self._context.run(protocol.eof_received):
            self.close()

    def on_lost(self, error: OSError | None) -> None:
        self._detach()
        self._resolve_waiter(error or ConnectionResetError("connection closed"))
        self._lose(error)

    def on_acknowledged(self) -> None:
        if self._paused_protocol and self._endpoint.unacknowledged <= self._low_bytes:
            self._paused_protocol = False
            self._context.run(self._protocol.resume_writing)

    # -- calls by the program

    def write(self, data: Any) -> None:
        if self._closing or self._lost:
            return
        if self._endpoint.write(data) > self._high_bytes and not self._paused_protocol:
            self._paused_protocol = True
            self._protocol.pause_writing()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._endpoint.close()
            self._lose(None)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._endpoint.terminate(reset=True)
            self._detach()
            self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        self._closing = True
        if not self._lost:
            self._lost = True
            if self._connected:
                self._loop.call_soon(self._protocol.connection_lost, error, context=self._context)

    def _resolve_waiter(self, error: OSError | None) -> None:
        if self.waiter is None:
            return
        future = self.waiter[0]
        self.waiter = None
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def can_write_eof(self) -> bool:
        return False  # so that programs which have the choice close both directions

    def write_eof(self) -> None:
        if not self._closing:
            self._endpoint.finish()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._endpoint.pause()

    def resume_reading(self) -> None:
        self._loop.call_soon(self._endpoint.resume)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol
        receiver: Any = protocol
        self._take = receiver.received if isinstance(protocol, TlsProtocol) else receiver.data_received

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002
        """Set the limit of unacknowledged bytes; programs that want no buffering also limit the kernel's buffer."""
        self._high_bytes = WRITE_HIGH_BYTES if high is None else max(high, NOT_SENT_BYTES)
        self._low_bytes = min(WRITE_LOW_BYTES, self._high_bytes)

    def get_write_buffer_size(self) -> int:
        return max(0, self._endpoint.unacknowledged - WRITE_HIGH_BYTES)


class _ListeningAddress:
    """Stands in for a listening socket, of which only the address is used."""

    def __init__(self, address: str, port: int) -> None:
        self._name = (address, port)

    def getsockname(self) -> tuple[str, int]:
        return self._name


class SimListener(asyncio.AbstractServer):
    """A listening address of a simulated host."""

    def __init__(
        self,
        loop: VirtualTimeLoop,
        accept: Callable[[], asyncio.BaseProtocol],
        address: str,
        port: int,
        forget: Callable[[], object],
    ) -> None:
        self.loop = loop
        self.accept = accept
        self.sockets = (_ListeningAddress(address, port),)
        self._forget = forget

    def close(self) -> None:
        self._forget()

    async def wait_closed(self) -> None:
        """Closing is immediate."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def is_serving(self) -> bool:
        return True

    async def start_serving(self) -> None:
        """Listening starts at once."""

    async def serve_forever(self) -> None:
        await self.loop.create_future()
