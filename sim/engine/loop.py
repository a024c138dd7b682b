"""An asyncio event loop whose clock is a SimPy environment.

An ordinary loop waits for sockets and timers. This one processes events of the environment until a callback is
ready; timers are events of the environment too. Coroutines and SimPy processes therefore share one order of events,
only simulated time passes, and simulating a day takes as long as processing its events.

Simulated time is an integer number of nanoseconds since the start of the lab. asyncio's own times are floats in
seconds, which resolve single nanoseconds up to 52 days.

The loop has no socket, selector or thread. `sim.net.loop.SimLoop` adds connections over the simulated network.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from math import ceil
from typing import Any, Final

from simpy.core import EmptySchedule

from sim.engine.clock import Environment, TimeStalled
from sim.engine.stalls import Stalled, stalled
from sim.units import format_duration

NS: Final = 1_000_000_000
CALLBACKS_AT_ONE_INSTANT_MAX: Final = 1 << 20
"""Number of callbacks at one instant that is treated as an endless loop; a busy lab has a few hundred."""
CANCELLATIONS_MAX: Final = 50
"""The number of cancellations after which a task is reported as one that does not end."""


class _Timer(asyncio.TimerHandle):
    """A callback's handle without asyncio's debugging data; about ten are created for each report."""

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


class VirtualTimeLoop(base_events.BaseEventLoop):
    """An event loop in simulated time. `env` is its clock; `failures` describes exceptions that were not handled."""

    # private attributes of asyncio's base class
    _ready: deque[_Timer]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.env = Environment()
        self.failures: list[str] = []
        self._endings: dict[asyncio.Task[None], None] = {}
        self.set_exception_handler(_note_failure)

    def create_future(self) -> asyncio.Future[Any]:
        """As in asyncio, without its check for debug mode."""
        return asyncio.Future(loop=self)

    def time(self) -> float:
        """Return the seconds since the start of the lab."""
        return self.env._now / NS

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio."""
        return self.call_at(self.env._now / NS + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio, but rounded up to a whole nanosecond, so that the callback never runs before `when`."""
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
        """As in asyncio."""
        handle = _Timer(0.0, callback, args, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """Process events and run ready callbacks until the loop is stopped. Raises: Stalled."""
        while not self._stopping:
            began_ns = self.env.now
            self._run_callbacks(CALLBACKS_AT_ONE_INSTANT_MAX)
            if self.env.now == began_ns and not self._stopping:
                raise self._stalled(f"{CALLBACKS_AT_ONE_INSTANT_MAX:,} callbacks ran and no lab time passed")

    def _stalled(self, why: str) -> Stalled:
        at = f"the lab cannot continue at {format_duration(self.env.now)} of lab time: {why}"
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
                except TimeStalled as error:
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
        """Cancel `tasks()` repeatedly until all are done, before any lab time passes.

        One cancellation is not enough for a task that awaits something in a `finally` block. Raises: Stalled, naming
        the tasks that are not done after CANCELLATIONS_MAX cancellations.
        """
        for _ in range(CANCELLATIONS_MAX):
            left = [task for task in tasks() if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # a task that awaits another one is resumed one iteration later
        raise stalled(f"tasks were cancelled {CANCELLATIONS_MAX} times and did not end", tasks())

    def end_tasks_soon(self, tasks: Callable[[], Sequence[asyncio.Task[Any]]]) -> None:
        """Schedule `end_tasks`; tasks that do not end are added to `failures`."""
        # bypass the task factory, which would add this task to those of the machine that ends
        ending: asyncio.Task[None] = asyncio.Task(self.end_tasks(tasks), loop=self)
        self._endings[ending] = None
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        del self._endings[ending]
        if not ending.cancelled() and (error := ending.exception()):
            self.failures.append(str(error))

    def _write_to_self(self) -> None:
        """Do nothing: the loop never waits in a system call that would have to be interrupted."""

    def run_for(self, delay_ns: int) -> None:
        """Run the loop for `delay_ns` nanoseconds of simulated time."""
        self.run_until_complete(asyncio.sleep(delay_ns / NS))


def _note_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, VirtualTimeLoop)
    error = context.get("exception")
    loop.failures.append(f"{context.get('message')}: {error!r}")
