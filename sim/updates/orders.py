"""The updates that a lab file orders."""

from __future__ import annotations

from collections.abc import Iterable

from sim.faults.box.update import OrderedRelease, UpdateOrdered
from sim.lab.labfile import ScheduledFault


def ordered_releases(events: Iterable[ScheduledFault]) -> list[OrderedRelease]:
    """Return the releases that the events of a lab order."""
    return [event.fault.release for event in events if isinstance(event.fault, UpdateOrdered)]
