"""Injection of a lab's faults and commands into its world; faults begin and end independently of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from sim.engine.layers import End
from sim.engine.trace import Trace
from sim.faults import AnyFault, is_portable, needs_machine_only
from sim.faults.world import EmulatedWorld, MachineWorld, World
from sim.lab.labfile import Order, ScheduledFault

_NS: Final = 1_000_000_000


class ActiveFault:
    """An occurrence of a fault, from its injection to its end."""

    def __init__(self, event: ScheduledFault, end: End, index: int) -> None:
        self.event = event
        self.end = end
        self.index = index
        """Its index in `FaultRunner.injected`."""


class FaultRunner:
    """Injects faults into `world`, and keeps a list of those that were injected and those that are active."""

    def __init__(
        self,
        world: World,
        now_ns: Callable[[], int],
        trace: Trace,
        emulated: EmulatedWorld | None = None,
        machine: MachineWorld | None = None,
    ) -> None:
        """`emulated` and `machine` are the same world if it is of that type; `now_ns` returns the lab time in ns."""
        self._machine = machine or emulated
        self._world, self._emulated, self._now_ns, self._trace = world, emulated, now_ns, trace
        self.injected: list[ScheduledFault] = []
        """All faults injected so far, oldest first, with the real duration if not as planned."""
        self.active: dict[ActiveFault, None] = {}
        """The faults that have not ended, oldest first."""
        self.ordered: dict[int, Order] = {}
        """The commands of the lab file that were queued, by number."""
        self.closed = False
        """Set at the end of the lab: no further fault begins or ends."""

    async def run_event(self, event: ScheduledFault) -> None:
        """Inject a fault of the lab file at its time, and end it after its duration."""
        await asyncio.sleep(max(0, event.at - self._now_ns()) / _NS)
        await self.wait_for_end(await self.inject(event))

    async def run_order(self, order: Order, serial: str) -> None:
        """Queue a command of the lab file at its time; an empty `serial` addresses the box."""
        await asyncio.sleep(max(0, order.at - self._now_ns()) / _NS)
        if not self.closed:
            self._trace.add(f"command {order.verb} {order.target}")
            datacenter = self._world.datacenter
            command = datacenter.queue_command(serial, order.verb, order.content(), order.expires_after)
            self.ordered[command] = order
            if order.withdrawn_after is not None:
                await asyncio.sleep(order.withdrawn_after / _NS)
                self._trace.add(f"withdrawal of {order.verb} {order.target}")
                datacenter.withdraw_command(command)

    async def inject(self, event: ScheduledFault) -> ActiveFault:
        """Inject a fault now, regardless of `event.at`. The caller ends it: `wait_for_end` or `end`."""
        self._trace.add(f"fault {event.fault.kind} {event.target}")
        index = len(self.injected)
        self.injected.append(event)
        active = ActiveFault(event, await self._start(event.fault, event.target), index)
        self.active[active] = None
        return active

    async def _start(self, fault: AnyFault, target: str) -> End:
        if is_portable(fault):
            return await fault.start(self._world, target)
        if needs_machine_only(fault) and self._machine is not None:
            return await fault.start(self._machine, target)
        assert self._emulated is not None, f"{fault.kind} needs the virtual world's emulated parts"
        return await fault.start(self._emulated, target)

    async def wait_for_end(self, active: ActiveFault) -> None:
        """End a fault after its duration; returns at once if it lasts until the end of the run."""
        event = active.event
        if event.lasts is not None:
            await asyncio.sleep(event.lasts / _NS)
        if event.lasts is not None or event.fault.momentary:
            await self.end(active)

    async def end(self, active: ActiveFault) -> None:
        """End a fault; does nothing if it, or the lab, has already ended."""
        if active not in self.active or self.closed:
            return
        del self.active[active]
        self._trace.add(f"end {active.event.fault.kind} {active.event.target}")
        self.injected[active.index] = _ended(active.event, self._now_ns())
        ending = active.end()
        if ending is not None:
            await ending


def _ended(event: ScheduledFault, now_ns: int) -> ScheduledFault:
    """Return the event with its real duration, if that differs from the planned one by a second or more."""
    lasted = now_ns - event.at
    if abs(lasted - (event.lasts or 0)) < _NS:
        return event
    return msgspec.structs.replace(event, lasts=lasted)
