"""The computer of an instrument in the kernel world."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.supervision.real_time import acting


class KernelComputer:
    """`sim.worlds.shared.analyzer.Computer`: tasks of this process that connect from a host of the lab."""

    def __init__(self, host: NamespaceHost) -> None:
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()

    def power_on(self) -> None:
        """Do nothing: programs can be started at any time."""

    def power_off(self) -> None:
        """End its programs."""
        for task in self._tasks:
            task.cancel()

    def start(self, program: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a program as a task that connects from the host."""
        context = copy_context()
        context.run(acting.set, self._host)
        task = asyncio.get_running_loop().create_task(program, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
