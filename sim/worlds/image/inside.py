"""Faults inside the guest of a lab: a full disk, a killed program, a step of the clock.

They act through programs in the running guest (`sim.worlds.image.machine.actions`). A full disk or a clock step that
begins while the guest boots takes effect as soon as the box responds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sim.engine.layers import End, Layers
from sim.engine.trace import Trace
from sim.worlds.image.machine import actions
from sim.worlds.image.machine.qemu import Monitor
from sim.worlds.shared.refusals import FaultRefused, ImageRefused

KINDS: Final = ("program-killed", "disk-full", "clock-jump")
"""Kinds of faults that need an action in the guest."""
ACTION_SECONDS_MAX: Final = 120.0
"""Time limit of an action, which takes one or two seconds, in case the image does not execute actions."""
_NS: Final = 1_000_000_000
_EARLIEST_NS: Final = round(datetime(1971, 1, 1, tzinfo=UTC).timestamp()) * _NS
_LATEST_NS: Final = round(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * _NS
"""Linux accepts clock settings from 1970 plus its uptime to 2232 (TIME_SETTOD_SEC_MAX in include/linux/time64.h)."""


def clock_step_problem(ns: int) -> str:
    """Return why the clock of a machine that starts now cannot be moved by `ns` ns, or "" if it can."""
    if _EARLIEST_NS <= time.time_ns() + ns <= _LATEST_NS:
        return ""
    return "sets the clock to a date before 1971 or after 2199, which Linux does not support; make the step smaller"


class InsideFaults:
    """The effects of these faults. `monitor` returns the monitor of the machine, or None without power."""

    def __init__(self, folder: Path, monitor: Callable[[], Monitor | None], trace: Trace) -> None:
        self._folder, self._monitor, self._trace = folder, monitor, trace
        self._action_lock = asyncio.Lock()
        self._fillers = Layers[None]()
        self._is_filled = False
        self._runs = False
        self._hardware_clock_ns = 0
        self._step_ns = 0
        """The sum of the clock steps that have not been applied to the running system, in ns."""

    @property
    def hardware_clock_ns(self) -> int:
        """The difference of the machine's hardware clock from the true time at the next power-on, in ns."""
        return self._hardware_clock_ns

    async def booted(self) -> None:
        """Record that the system has booted, and put it into the state that the effects require."""
        self._runs = True
        await self._settle()

    def powered_on(self) -> None:
        """Record that the machine is powered on and boots; its clock starts from the hardware clock."""
        self._runs, self._step_ns = False, 0

    def powered_off(self) -> None:
        """Record that the machine is powered off."""
        self._runs = False

    async def check(self) -> None:
        """Check that the guest's running system executes actions. Raises: ImageRefused."""
        self._runs = True
        try:
            await self._execute("look")
        except actions.ActionFailed as error:
            kinds = ", ".join(KINDS)
            raise ImageRefused(f"faults such as {kinds} are impossible with this image: {error}") from None

    # -- effects

    async def kill(self) -> None:
        """Kill the box program, if the system runs."""
        if self._runs:
            self._trace.add("box program killed")
            await self._act("kill")

    async def fill_disk(self) -> End:
        """Fill the state partition. It is cleared when all such effects have ended."""
        return await self._fillers.add_settled(None, self._settle)

    async def jump_clock(self, ns: int) -> None:
        """Move the clock of the running system and the hardware clock by `ns` ns. Raises: FaultRefused."""
        if why := clock_step_problem(self._hardware_clock_ns + ns):
            raise FaultRefused(f"clock-jump {why}")
        self._hardware_clock_ns += ns
        self._step_ns += ns
        await self._settle()

    async def _settle(self) -> None:
        """Apply pending effects to the running system."""
        if not self._runs:
            return
        if self._fillers or self._is_filled:
            self._is_filled = bool(self._fillers)
            await self._act("fill" if self._fillers else "clear")
        step, self._step_ns = self._step_ns, 0
        if step:
            await self._act(f"clock {step}")

    async def _act(self, action: str) -> None:
        try:
            await self._execute(action)
        except actions.ActionFailed as error:
            raise FaultRefused(str(error)) from None

    async def _execute(self, action: str) -> None:
        """Execute an action; a power cut during it ends it silently."""
        async with self._action_lock:
            monitor = self._monitor()
            if monitor is not None and self._runs:
                with suppress(OSError):  # the power was cut
                    await actions.execute(monitor, self._folder, action, ACTION_SECONDS_MAX)
