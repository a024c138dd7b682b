"""The faults of a running lab, in any world: each occurrence of one begins, and ends for itself alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from sim.engine.layers import End
from sim.engine.trace import Trace
from sim.faults.world import World
from sim.lab.labfile import Event, Order

_NS: Final = 1_000_000_000


class Occurrence:
    """One time that a fault happens."""

    def __init__(self, event: Event, end: End, place: int) -> None:
        self.event = event
        self.end = end
        self.place = place
        """Its index in `Occurrences.happened`."""


class Occurrences:
    """What has happened in `world`, and what is under way."""

    def __init__(self, world: World, now_ns: Callable[[], int], trace: Trace) -> None:
        self._world, self._now_ns, self._trace = world, now_ns, trace
        self.happened: list[Event] = []
        """All that began, in that order; of those that ended at another time than planned, with the real one."""
        self.under_way: dict[Occurrence, None] = {}
        """Those that have not ended, oldest first."""
        self.closed = False
        """Set when the lab is over: nothing begins and nothing ends any more."""

    async def run(self, event: Event) -> None:
        """Let an event of the lab file happen in its time."""
        await asyncio.sleep(max(0, event.at - self._now_ns()) / _NS)
        await self.see_through(await self.start(event))

    async def queue(self, order: Order, serial: str) -> None:
        """Let a command of the lab file be queued in its time, for that instrument or with "" for the box."""
        await asyncio.sleep(max(0, order.at - self._now_ns()) / _NS)
        if not self.closed:
            self._trace.add(f"command {order.verb} {order.target}")
            self._world.datacenter.queue_command(serial, order.verb)

    async def start(self, event: Event) -> Occurrence:
        """Let a fault happen now; whoever starts it sees it through."""
        self._trace.add(f"fault {event.fault.kind} {event.target}")
        place = len(self.happened)
        self.happened.append(event)
        occurrence = Occurrence(event, await event.fault.start(self._world, event.target), place)
        self.under_way[occurrence] = None
        return occurrence

    async def see_through(self, occurrence: Occurrence) -> None:
        """End it when its time has come, unless it stays."""
        event = occurrence.event
        if event.lasts is not None:
            await asyncio.sleep(event.lasts / _NS)
        if event.lasts is not None or event.fault.momentary:
            await self.end(occurrence)

    async def end(self, occurrence: Occurrence) -> None:
        """End it; does nothing if it has ended, or the lab has."""
        if occurrence not in self.under_way or self.closed:
            return
        del self.under_way[occurrence]
        self._trace.add(f"end {occurrence.event.fault.kind} {occurrence.event.target}")
        self.happened[occurrence.place] = _ended(occurrence.event, self._now_ns())
        ending = occurrence.end()
        if ending is not None:
            await ending


def _ended(event: Event, now_ns: int) -> Event:
    """The event with the time that it really took, if that is not what was planned."""
    took = now_ns - event.at
    if abs(took - (event.lasts or 0)) < _NS:
        return event
    return msgspec.structs.replace(event, lasts=took)
