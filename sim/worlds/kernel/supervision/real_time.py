"""SimPy at the speed of real time, and an event loop that connects from the network of the host it acts for.

Instruments, their agents and the people around them are the same code as in the virtual world. There a loop steps
SimPy and time leaps; here time passes by itself, and SimPy's queue is stepped when it gets there.
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
"""The host on whose behalf the running task acts."""


class RealTimeEnvironment(Environment):
    """A SimPy environment whose time is nanoseconds since it began; `run_forever` lets things happen."""

    def __init__(self) -> None:
        super().__init__()
        self._began_ns = time.monotonic_ns()
        self._sooner = asyncio.Event()

    @property
    def began_ns(self) -> int:
        """Its beginning, on the monotonic clock."""
        return self._began_ns

    def begin(self) -> None:
        """Let its time begin now; nothing must be in its queue."""
        assert not self._queue
        self._began_ns = time.monotonic_ns()

    @property
    def now(self) -> int:
        """Nanoseconds since it began."""
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
        """Let everything happen when its time has come."""
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
    """Return False for asyncio's hint that a program writes in vain, which hostile programs do on purpose."""
    return record.msg != "SSL connection is closed"


class HostLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop; a task that acts for a host connects from there. `failures` are what no task handled."""

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
        """See asyncio. For a task that acts for a host, `host` is an IPv4 address in numbers."""
        where = acting.get(None)
        if where is None or host is None:
            return await super().create_connection(factory, host, port, **more)
        with where.inside():
            connection = socket.socket()
        try:
            connection.setblocking(False)
            await self.sock_connect(connection, (host, port))
            return await super().create_connection(factory, sock=connection, **more)
        except BaseException:
            connection.close()
            raise
