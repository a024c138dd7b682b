"""SimPy in real time, and an event loop whose tasks connect from the network of a host.

Instruments, their agents and operators are the same code as in the virtual world. There the loop advances SimPy's
time from event to event; here SimPy's events are processed when their real time has come.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import simpy.core
from simpy.events import NORMAL

from sim.engine.clock import Environment
from sim.worlds.kernel.namespaces.host import NamespaceHost
from wire.process.transports import is_second_loss

_NS: Final = 1_000_000_000

acting: ContextVar[NamespaceHost] = ContextVar("acting")
"""The host from whose network the running task connects."""


class RealTimeEnvironment(Environment):
    """A SimPy environment in real time: nanoseconds since `begin`. `run_forever` processes its events."""

    def __init__(self) -> None:
        super().__init__()
        self._began_ns = time.monotonic_ns()
        self._sooner = asyncio.Event()

    @property
    def began_ns(self) -> int:
        """Its start, on the monotonic clock in nanoseconds."""
        return self._began_ns

    def begin(self) -> None:
        """Start its time now; its queue must be empty."""
        assert not self._queue
        self._began_ns = time.monotonic_ns()

    @property
    def now(self) -> int:
        """Nanoseconds since `begin`."""
        return time.monotonic_ns() - self._began_ns

    def after(self, delay_ns: int, callback: Callable[[Any], object], value: Any = None) -> None:
        """See `Environment.after`."""
        self._now = self.now
        super().after(delay_ns, callback, value)
        self._sooner.set()

    def schedule(self, event: simpy.Event, priority: Any = NORMAL, delay: float = 0) -> None:
        """See `simpy.Environment.schedule`."""
        self._now = self.now
        super().schedule(event, priority, delay)
        self._sooner.set()

    async def run_forever(self) -> None:
        """Process each event when it is due."""
        while True:
            self._sooner.clear()
            try:
                async with asyncio.timeout(self._seconds_left()):
                    await self._sooner.wait()
            except TimeoutError:
                while self.peek() <= self.now:
                    self.step()

    def _seconds_left(self) -> float | None:
        due = self.peek()
        return None if due == simpy.core.Infinity else max(0, due - self.now) / _NS


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Return False for asyncio's warning about writes to a closed connection, which hostile programs cause."""
    return record.msg != "SSL connection is closed"


class HostLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, whose tasks connect from the host in `acting`.

    `failures` describes the exceptions that no task handled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.set_exception_handler(self._note_failure)
        logging.getLogger("asyncio").addFilter(_is_worth_logging)

    def _note_failure(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not is_second_loss(context):
            self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def create_connection(  # type: ignore[override]
        self, factory: Any, host: Any = None, port: Any = None, **more: Any
    ) -> Any:
        """See asyncio. For a task with a host in `acting`, `host` must be a numeric IPv4 address."""
        acting_host = acting.get(None)
        if acting_host is None or host is None:
            return await super().create_connection(factory, host, port, **more)
        with acting_host.inside():
            connection = socket.socket()
        try:
            connection.setblocking(False)
            await self.sock_connect(connection, (host, port))
        except BaseException:
            connection.close()
            raise
        # from here on, the transport closes it: closed here, its descriptor could be reused for another connection
        return await super().create_connection(factory, sock=connection, **more)
