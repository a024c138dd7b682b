"""The parts of a report's delay that faults explain.

A fault that *blocks* (an unplugged cable, a data center that answers with errors) explains all delay until it has
ended and the box has recovered. A fault that only *slows* (packet loss, a low rate, a busy data center, a restart)
explains delay as long as there is progress: other reports are still acknowledged or stored. It does not explain that
the forwarder makes no progress at all. The lab's limits apply to the rest of the delay, which is unexplained.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, pairwise
from math import inf
from typing import Final

from sim.faults import port_of
from sim.lab.labfile import ScheduledFault
from sim.units import SECOND_NS

START_NS: Final = 20 * SECOND_NS
"""The first part of a lab, in nanoseconds, in which the programs start; it explains any delay."""

Span = tuple[float, float]


def explains_delivery(event: ScheduledFault) -> bool:
    """Return whether this fault can keep the box from delivering what it has acknowledged."""
    return event.fault.effect != "none" and event.target != "clock" and port_of(event.target) is None


def explains_acknowledgement(event: ScheduledFault, port: int | None) -> bool:
    """Return whether this fault can keep the box from acknowledging reports of the instrument at `port`."""
    if event.fault.effect == "none":
        return False
    return event.target in ("box", "disk") or (port is not None and port_of(event.target) == port)


def span(event: ScheduledFault) -> Span:
    """Return the start and end of a fault, in nanoseconds of lab time; the end is infinity if it never ended."""
    if event.lasts is None:
        return event.at, event.at if event.fault.momentary else inf
    return event.at, event.at + event.lasts


def outage_ends(events: Iterable[ScheduledFault]) -> list[int]:
    """Return the times at which a fault between box and data center ended while no other one was active."""
    spans = [span(event) for event in events if explains_delivery(event)]
    return [
        int(end)
        for _, end in spans
        if end < inf and not any(start <= end < other for start, other in spans)
    ]  # fmt: skip


class Causes:
    """The intervals of lab time in which faults explain delay."""

    def __init__(self, events: Iterable[ScheduledFault], progress: Iterable[int], stall_ns: float) -> None:
        """`progress` are the times at which reports were acknowledged or stored, in any order, in ns of lab time.

        A slowing fault explains at most `stall_ns` nanoseconds without progress.
        """
        blocked: list[Span] = [(0, START_NS)]
        slowed: list[Span] = []
        for event in events:
            start, end = span(event)
            slows = event.fault.effect == "slows" or start == end
            (slowed if slows else blocked).append((start, end + event.fault.recovery_ns))
        blocked = _merged(blocked)
        explained = _merged([*blocked, *_with_progress(_merged(slowed), progress, blocked, stall_ns)])
        self._starts = [start for start, _ in explained]
        self._ends = [end for _, end in explained]
        self._totals = list(accumulate((end - start for start, end in explained), initial=0.0))

    def unexplained(self, since: int, until: int) -> float:
        """Return the part of the time from `since` to `until` that no fault explains, in nanoseconds."""
        return until - since - self._explained_to(until) + self._explained_to(since)

    def _explained_to(self, now: int) -> float:
        index = bisect_right(self._starts, now)
        if index == 0:
            return 0.0
        return self._totals[index - 1] + min(now, self._ends[index - 1]) - self._starts[index - 1]


def _with_progress(
    slowed: list[Span], progress: Iterable[int], blocked: list[Span], stall_ns: float
) -> Iterable[Span]:
    """Yield the parts of slowed spans within `stall_ns` of the last progress or the end of a blocking fault."""
    steps = sorted([0.0, *progress, *(end for _, end in blocked if end < inf)]) if slowed else []
    stalls = [(a + stall_ns, b) for a, b in pairwise([*steps, inf]) if b - a > stall_ns]
    for start, end in slowed:
        for stall_start, stall_end in stalls:
            if stall_end <= start or stall_start >= end:
                continue
            if start < stall_start:
                yield start, stall_start
            start = max(start, stall_end)
        if start < end:
            yield start, end


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
