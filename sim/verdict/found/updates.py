"""The updates of a lab's run, as the box has reported them to the data center."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from datacenter.store.store import Store
from datacenter.store.tables.schema import update_orders
from sim.faults.box.update import OrderedRelease
from sim.lab.labfile import ScheduledFault
from sim.updates.orders import ordered_releases

_EXPECTED_STEPS: Final[dict[OrderedRelease, str]] = {
    "healthy": "committed",
    "unhealthy": "returned",
    "unstartable": "returned",
    "application": "committed",
    "unhealthy-application": "returned",
    "unstartable-application": "returned",
    "profiles": "committed",
    "narrow-profiles": "returned",
    "unusable-profiles": "failed",
}


@dataclass(frozen=True)
class UpdateResult:
    """An update: its release, and the last step that the box has reported, "" if none."""

    release: OrderedRelease
    step: str

    @property
    def is_right(self) -> bool:
        """Whether it ended as the release requires."""
        return self.step == _EXPECTED_STEPS[self.release]


def update_results(store: Store, events: Iterable[ScheduledFault]) -> tuple[UpdateResult, ...]:
    """Return the updates of a lab, in the order of their events."""
    ordered = ordered_releases(events)
    if not ordered:
        return ()
    steps = [step or "" for (step,) in store.read(select(update_orders.c.step).order_by(update_orders.c.id))]
    steps += [""] * (len(ordered) - len(steps))
    return tuple(UpdateResult(release, step) for release, step in zip(ordered, steps, strict=False))
