"""The audit records that the SIEM of a lab has received, compared with those that the data center has stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Final

from sqlalchemy import select

from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit
from sim.lab.labfile import ScheduledFault
from sim.units import MILLISECOND_NS, MINUTE_NS

FORWARDED_WITHIN_NS: Final = 15 * MINUTE_NS
"""A stored record must arrive within this time without an outage; the forwarder retries after 10 min at most."""
_OUTAGES: Final = ("siem-down", "datacenter-restarts")


@dataclass(frozen=True)
class SiemFindings:
    """The IDs of audit records: those that the SIEM must have by the end of the lab, and those that it has."""

    due: Sequence[str] = ()
    received: Sequence[str] = ()

    @property
    def problems(self) -> list[str]:
        """Descriptions of the records that are missing, repeated, or out of order."""
        counts = Counter(self.received)
        missing = [f"{ident} has not arrived" for ident in self.due if ident not in counts]
        twice = [f"{ident} has arrived {count} times" for ident, count in counts.items() if count > 1]
        return [*missing, *twice, *self._disordered()]

    def _disordered(self) -> Iterator[str]:
        chains: dict[str, list[int]] = {}
        for ident in self.received:
            chain, _, number = ident.rpartition("/")
            chains.setdefault(chain, []).append(int(number))
        for chain, numbers in chains.items():
            yield from (
                f"{chain}/{two} has arrived after {one}" for one, two in pairwise(numbers) if two < one
            )


def siem_findings(
    store: Store, received: Sequence[str], events: Sequence[ScheduledFault], epoch_ms: int, end_ns: int
) -> SiemFindings:
    """Compare the store with `received`.

    `epoch_ms` is the start of the lab in ms since 1970, and `end_ns` its end in ns of lab time.
    """
    table = box_audit.c
    query = select(table.box, table.epoch, table.number, table.stored_at_ms).where(table.is_repeated == 0)
    outages = sorted(_outages(events))
    due = []
    for box, epoch, number, stored_at_ms in store.read(query.order_by(table.box, table.epoch, table.number)):
        stored_ns = (stored_at_ms - epoch_ms) * MILLISECOND_NS
        if _due_ns(stored_ns, outages) <= end_ns:
            due.append(f"{box}/{epoch}/{number}")
    return SiemFindings(due, received)


def _outages(events: Sequence[ScheduledFault]) -> Iterator[tuple[float, float]]:
    for event in events:
        if event.fault.kind in _OUTAGES:
            lasts = 0 if event.fault.momentary else inf
            yield event.at, event.at + (lasts if event.lasts is None else event.lasts)


def _due_ns(stored_ns: float, outages: Sequence[tuple[float, float]]) -> float:
    """Return the end of the first interval of `FORWARDED_WITHIN_NS` without an outage after a record was stored."""
    began = stored_ns
    for start, end in outages:
        if end >= began and start < began + FORWARDED_WITHIN_NS:
            began = end
    return began + FORWARDED_WITHIN_NS
