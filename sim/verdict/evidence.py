"""The evidence for an expectation that does not hold: the reports concerned and the preceding fault."""

from __future__ import annotations

from collections.abc import Sequence

from sim.lab.labfile import ScheduledFault
from sim.units import MILLISECOND_NS
from sim.verdict.ledger import NEVER, LedgerEntry
from sim.verdict.result import FAILED_REPORTS_MAX, Failure, FaultOccurrence, TracedReport


def failure(
    name: str, explanation: str, entries: Sequence[LedgerEntry], events: Sequence[ScheduledFault]
) -> Failure:
    """Return the evidence for the expectation `name`: the first reports concerned, and the last fault before them.

    `explanation` explains the expectation in a sentence.
    """
    shown = sorted(entries, key=lambda entry: entry.made_ns)[:FAILED_REPORTS_MAX]
    return Failure(
        expectation=name,
        explanation=explanation,
        reports=tuple(_traced(entry, given_up=name == "dropped") for entry in shown),
        reports_total=len(entries),
        fault_before=_last_fault(events, shown[0].made_ns if shown else None),
    )


def as_fault(event: ScheduledFault) -> FaultOccurrence:
    """Convert an event of the lab to a fault of a result."""
    return FaultOccurrence(kind=event.fault.kind, at_ns=event.at, target=event.target, lasts_ns=event.lasts)


def _traced(entry: LedgerEntry, *, given_up: bool) -> TracedReport:
    return TracedReport(
        instrument=entry.serial,
        run=entry.run,
        number=entry.number,
        kind=entry.kind,
        made_ns=entry.made_ns,
        acknowledged_ns=None if entry.acknowledged_ns == NEVER else entry.acknowledged_ns,
        outcome="given up by the box, and named in a gap record" if given_up else _describe_outcome(entry),
        stored_ns=None if entry.stored_ns == NEVER else entry.stored_ns,
    )


def _describe_outcome(entry: LedgerEntry) -> str:
    if entry.stored_ns != NEVER:
        return f"stored {_seconds(entry.stored_ns - entry.made_ns)} after it was made"
    if entry.sequence != NEVER:
        return "still on the box at the end"
    if entry.acknowledged_ns == NEVER:
        return "not on the box at the end"
    return "acknowledged, and neither stored nor on the box at the end"


def _seconds(ns: int) -> str:
    return f"{ns // MILLISECOND_NS / 1000:,.3f} s"


def _last_fault(events: Sequence[ScheduledFault], before_ns: int | None) -> FaultOccurrence | None:
    """Return the last fault that began before `before_ns`; the first fault if there is none."""
    earlier = [event for event in events if before_ns is None or event.at <= before_ns] or list(events[:1])
    return as_fault(earlier[-1]) if earlier else None
