"""The virtual world's asyncio event loop: simulated time, and connections over the simulated network.

Connections are made from the host whose code is running (`sim.net.host.current`). `run_in_executor` calls its
function immediately; the result becomes available after the time that the host's simulated devices need.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl as ssl_module
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, TypeVar

from sim.engine.loop import VirtualTimeLoop
from sim.net.host import current
from sim.net.tls import TlsProtocol
from sim.net.transport import SimListener, SimTransport

_T = TypeVar("_T")


class SimLoop(VirtualTimeLoop):
    """The event loop of the virtual world; each task belongs to the host incarnation that created it."""

    def __init__(self) -> None:
        super().__init__()
        self._task_numbers = itertools.count()
        self.set_task_factory(_make_task)  # type: ignore[arg-type]

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Call `func` now; the future is done when the host's devices are no longer busy."""
        future: asyncio.Future[_T] = self.create_future()
        incarnation = current.get(None)
        if incarnation is not None and not incarnation.alive:
            future.set_exception(OSError(f"{incarnation.host.name} is off"))
            future.exception()  # mark as retrieved, because it may never be awaited
            return future
        try:
            result, error = func(*args), None
        except Exception as exception:  # set on the future, as by any executor
            result, error = None, exception
        until = incarnation.busy_until_ns if incarnation else 0

        def finish(_event: Any) -> None:
            if future.cancelled() or (incarnation and not incarnation.alive):
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        if until > self.env.now:
            self.env.after(until - self.env.now, finish)
        else:
            finish(None)
        return future

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect from the current host. Raises: OSError, as asyncio's loops do."""
        names = current.get().host.network.names
        address = host if names.is_healthy else await names.resolve(host)
        protocol = protocol_factory()
        waiter: asyncio.Future[None] = self.create_future()
        transport = self._connecting(protocol, address, port, ssl, server_hostname or host, waiter)
        try:
            await waiter
        except BaseException:
            transport.abort()
            raise
        return transport.app_transport(), protocol

    def _connecting(
        self,
        protocol: asyncio.BaseProtocol,
        host: str,
        port: int,
        ssl: ssl_module.SSLContext | None,
        server_hostname: str,
        waiter: asyncio.Future[None],
    ) -> SimTransport:
        inner = protocol
        if ssl is not None:
            inner = TlsProtocol(
                self,
                protocol,
                ssl,
                waiter,
                wall_ns=current.get().host.wall_ns,
                server_side=False,
                server_hostname=server_hostname,
            )
        return current.get().connect(self, inner, host, port, waiter, plain=ssl is None)

    async def start_tls(  # type: ignore[override]
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        sslcontext: ssl_module.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Upgrade a connection to TLS. Raises: OSError, as asyncio's loops do."""
        handshake_done: asyncio.Future[None] = self.create_future()
        inner = TlsProtocol(
            self,
            protocol,
            sslcontext,
            handshake_done,
            wall_ns=current.get().host.wall_ns,
            server_side=server_side,
            server_hostname=server_hostname,
            call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        transport.set_protocol(inner)
        inner.connection_made(transport)
        transport.resume_reading()
        try:
            await handshake_done
        except BaseException:
            transport.close()
            raise
        return inner._app_transport

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | None = None,
        backlog: int = 100,  # noqa: ARG002 - connections are accepted at once
    ) -> SimListener:
        """Listen on the current host's address `host`. Raises: OSError if the port is in use."""
        wall_ns = current.get().host.wall_ns

        def accept() -> asyncio.BaseProtocol:
            protocol = protocol_factory()
            if ssl is None:
                return protocol
            return TlsProtocol(self, protocol, ssl, None, wall_ns=wall_ns, server_side=True)

        return current.get().listen(self, accept, host, port)


def _make_task(
    loop: asyncio.AbstractEventLoop, coro: Generator[Any, None, _T], context: Context | None = None
) -> asyncio.Task[_T]:
    task: asyncio.Task[_T] = asyncio.Task(coro, loop=loop, context=context)
    incarnation = current.get(None) if context is None else context.get(current)
    if incarnation is not None:
        incarnation.tasks[next(loop._task_numbers)] = task  # type: ignore[attr-defined]
    return task
