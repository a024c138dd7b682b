"""An asyncio event loop whose clock is a SimPy environment.

`select`, where an ordinary loop waits for sockets, steps the environment until a step has made some callback
ready or the next timer is due; no time passes otherwise. So code that awaits and SimPy processes that yield
live in one order of events, and a day takes as long as its events do.

Simulated time is an integer number of nanoseconds from the start of the lab. asyncio's own times are floats of
seconds, which are exact to a nanosecond for 52 days.

The loop owns no socket, no selector and no thread. Connections go to the simulated network of the host on
whose behalf the code runs (`sim.net.host.current`), and `run_in_executor` runs its function at once, then lets
the time pass that the host's disk says it took.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl as ssl_module
from asyncio import base_events, sslproto
from collections.abc import Callable, Generator
from contextvars import Context
from math import ceil, inf
from typing import Any, Final, TypeVar

from sim.clock import Environment
from sim.net.host import current
from sim.net.transport import Listener, SimTransport

_T = TypeVar("_T")
NS: Final = 1_000_000_000


class Deadlock(Exception):
    """Nothing is left that could ever happen, and something is still awaited."""


class SteppingSelector:
    """What the loop calls to wait: steps the environment instead."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> tuple[()]:
        """Run events until a callback is ready or the first timer is due; with `timeout` 0, nothing."""
        loop = self._loop
        env, ready = loop.env, loop._ready  # type: ignore[attr-defined]
        timers = loop._scheduled  # type: ignore[attr-defined]  # a new list now and then
        if timeout == 0:
            return ()
        first, until = None, inf
        while not ready:
            if timers and timers[0] is not first:  # an event has set a timer that comes before the others
                first = timers[0]
                until = max(env.now, round(first.when() * NS))
            if env.peek() > until:
                env.advance(int(until))
                break
            if until == inf and env.peek() == inf:
                raise Deadlock("no event is scheduled, and no timer is set")
            env.step()
        return ()

    def close(self) -> None:
        """Nothing is held."""


class SimLoop(base_events.BaseEventLoop):
    """The event loop of the virtual world; `env` is its clock, `failures` what no task handled."""

    def __init__(self) -> None:
        super().__init__()
        self.env = Environment()
        self.failures: list[str] = []
        # The names that asyncio's base class asks its subclasses for
        self._selector = SteppingSelector(self)
        self._clock_resolution = 0.5 / NS
        self._task_numbers = itertools.count()
        self.set_task_factory(_make_task)  # type: ignore[arg-type]
        self.set_exception_handler(_note_failure)

    def time(self) -> float:
        """Seconds since the start of the lab."""
        return self.env.now / NS

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in any loop; on the next whole nanosecond, so that the time then is never before `when`."""
        at_ns = ceil(when * NS)
        while at_ns / NS < when:
            at_ns += 1
        return super().call_at(at_ns / NS, callback, *args, context=context)

    def _process_events(self, events: Any) -> None:
        """There are none: the selector has run them."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call here."""

    def run_for(self, delay_ns: int) -> None:
        """Let simulated time pass."""
        self.run_until_complete(asyncio.sleep(delay_ns / NS))

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Call `func` now; its result is there when the host's devices have spent the time it cost."""
        future: asyncio.Future[_T] = self.create_future()
        incarnation = current.get(None)
        if incarnation is not None and not incarnation.alive:
            future.set_exception(OSError(f"{incarnation.host.name} is off"))
            future.exception()  # there may be nobody left to see it
            return future
        try:
            result, error = func(*args), None
        except Exception as exception:  # it is the future's, as in any executor
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
        """Connect from the current host. Raises OSError as a real loop would."""
        protocol = protocol_factory()
        waiter: asyncio.Future[None] = self.create_future()
        transport = self._connecting(protocol, host, port, ssl, server_hostname or host, waiter)
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
            inner = sslproto.SSLProtocol(
                self, protocol, ssl, waiter, server_side=False, server_hostname=server_hostname
            )
        return current.get().connect(self, inner, host, port, waiter, plain=ssl is None)

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | None = None,
    ) -> Listener:
        """Listen on the current host's address `host`. Raises OSError if the address is taken."""

        def accept() -> asyncio.BaseProtocol:
            protocol = protocol_factory()
            if ssl is None:
                return protocol
            return sslproto.SSLProtocol(self, protocol, ssl, None, server_side=True)  # type: ignore[arg-type]

        return current.get().listen(self, accept, host, port)


def _make_task(
    loop: asyncio.AbstractEventLoop, coro: Generator[Any, None, _T], context: Context | None = None
) -> asyncio.Task[_T]:
    task: asyncio.Task[_T] = asyncio.Task(coro, loop=loop, context=context)
    incarnation = current.get(None) if context is None else context.get(current)
    if incarnation is not None:
        incarnation.tasks[next(loop._task_numbers)] = task  # type: ignore[attr-defined]
    return task


def _note_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimLoop)
    error = context.get("exception")
    loop.failures.append(f"{context.get('message')}: {error!r}")
