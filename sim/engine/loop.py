"""An asyncio event loop whose clock is a SimPy environment.

Where an ordinary loop waits for sockets and timers, this one steps the environment until a step has made some
callback ready; a timer is a SimPy event like any other. So code that awaits and SimPy processes that yield live in
one order of events, no time passes but theirs, and a day takes as long as its events do.

Simulated time is an integer number of nanoseconds from the start of the lab. asyncio's own times are floats of
seconds, which tell nanoseconds apart for 52 days.

The loop owns no socket, no selector and no thread. Connections go to the simulated network of the host on
whose behalf the code runs (`sim.net.host.current`), and `run_in_executor` runs its function at once, then lets
the time pass that the host's disk says it took.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl as ssl_module
from asyncio import base_events
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextvars import Context, copy_context
from math import ceil
from typing import Any, Final, TypeVar

from simpy.core import EmptySchedule

from sim.engine.clock import Environment, TimeStands
from sim.engine.stalls import Stalled, stalled
from sim.net.host import current
from sim.net.tls import TlsProtocol
from sim.net.transport import SimListener, SimTransport
from sim.units import format_duration

_T = TypeVar("_T")
NS: Final = 1_000_000_000


CALLBACKS_AT_ONE_INSTANT_MAX: Final = 1 << 20
"""So many callbacks without any lab time passing are taken for an endless loop; a busy lab has a few hundred."""
CANCELLATIONS_MAX: Final = 50
"""A task is cancelled so often before it counts as one that refuses to end."""


class _Timer(asyncio.TimerHandle):
    """A callback that is due, without what asyncio keeps for debugging: there are ten of them for each report."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self._when, self._callback, self._args, self._cancelled = when, callback, args, False
        self._context = copy_context() if context is None else context
        self._source_traceback = None

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]


class SimLoop(base_events.BaseEventLoop):
    """The event loop of the virtual world; `env` is its clock, `failures` what no task handled."""

    # The names under which asyncio's base class keeps these
    _ready: deque[_Timer]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.env = Environment()
        self.failures: list[str] = []
        self._task_numbers = itertools.count()
        self._endings: dict[asyncio.Task[None], None] = {}
        self.set_task_factory(_make_task)  # type: ignore[arg-type]
        self.set_exception_handler(_note_failure)

    def create_future(self) -> asyncio.Future[Any]:
        """As in any loop, without asking each time whether it is being debugged."""
        return asyncio.Future(loop=self)

    def time(self) -> float:
        """Seconds since the start of the lab."""
        return self.env._now / NS

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in any loop."""
        return self.call_at(self.env._now / NS + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in any loop; on the next whole nanosecond, so that the time then is never before `when`."""
        at_ns = ceil(when * NS)
        while at_ns / NS < when:
            at_ns += 1
        timer = _Timer(when, callback, args, context)
        self.env.after(max(0, at_ns - self.env._now), self._due, timer)
        return timer

    def _due(self, timer: _Timer) -> None:
        if not timer._cancelled:
            self._ready.append(timer)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As in any loop."""
        handle = _Timer(0.0, callback, args, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """Step until something is ready, and run it, in turn, until the loop is stopped. Raises Stalled."""
        while not self._stopping:
            began_ns = self.env.now
            self._run_callbacks(CALLBACKS_AT_ONE_INSTANT_MAX)
            if self.env.now == began_ns and not self._stopping:
                raise self._stalled(f"{CALLBACKS_AT_ONE_INSTANT_MAX:,} callbacks ran and no lab time passed")

    def _stalled(self, why: str) -> Stalled:
        at = f"the lab cannot go on at {format_duration(self.env.now)} of lab time: {why}"
        return stalled(at, asyncio.all_tasks(self))

    def _run_callbacks(self, count: int) -> None:
        ready, step_until = self._ready, self.env.step_until
        for _ in range(count):
            if self._stopping:
                return
            if not ready:
                try:
                    step_until(ready)
                except EmptySchedule:
                    raise self._stalled("no event is scheduled, and no timer is set") from None
                except TimeStands as error:
                    raise self._stalled(str(error)) from None
            handle = ready.popleft()
            if handle._cancelled:
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.call_exception_handler({"message": "callback failed", "exception": error})

    async def end_tasks(self, tasks: Callable[[], Sequence[asyncio.Task[Any]]]) -> None:
        """Cancel `tasks()` until none is left, before any lab time passes.

        One cancellation is not enough for a task that awaits something in a `finally` block. Raises Stalled, naming
        the tasks that do not end.
        """
        for _ in range(CANCELLATIONS_MAX):
            left = [task for task in tasks() if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # a task that waits for another one learns of its end a turn later
        raise stalled(f"tasks were cancelled {CANCELLATIONS_MAX} times and did not end", tasks())

    def end_tasks_soon(self, tasks: Callable[[], Sequence[asyncio.Task[Any]]]) -> None:
        """`end_tasks` when it is the loop's turn; tasks that do not end are among the `failures`."""
        # not by the task factory, which would count it among the tasks of the machine whose end this is
        ending: asyncio.Task[None] = asyncio.Task(self.end_tasks(tasks), loop=self)
        self._endings[ending] = None
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        del self._endings[ending]
        if not ending.cancelled() and (error := ending.exception()):
            self.failures.append(str(error))

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
        """Continue with `protocol` over TLS. Raises OSError as a real loop would."""
        made: asyncio.Future[None] = self.create_future()
        inner = TlsProtocol(
            self,
            protocol,
            sslcontext,
            made,
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
            await made
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
        """Listen on the current host's address `host`. Raises OSError if the address is taken."""
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


def _note_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimLoop)
    error = context.get("exception")
    loop.failures.append(f"{context.get('message')}: {error!r}")
